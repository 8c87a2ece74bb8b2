"""P5: an acknowledged write survives a crash at any instant and reappears byte for byte."""

from __future__ import annotations

import pytest

from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.harness import Ledger, Witness, beset_by, crashing, together
from tests.properties.stage import App

LEDGERS, CLIENTS, OPERATIONS, CRASHES = 2, 3, 4, 4
PAYLOAD_BYTES_MAX = 300


async def client(name: str, witness: Witness, chance: Chance) -> None:
    for number in range(OPERATIONS):
        payload = bytes.fromhex(chance.hex(1 + chance.below(PAYLOAD_BYTES_MAX)))
        await witness.add(f"{name}{number}", payload, pause_s=0.01 * chance.below(2))
        await sleep(0.1 * chance.fraction())


async def scenario(seed: int, on: type[App] = TestApp) -> None:
    """Clients of two actors that write bytes while the process dies again and again, at commits above all."""
    chance = Chance(seed)
    async with on.of(actors={"ledger": Ledger}, world=World(commit_s=0.05)) as app:
        witnesses = [Witness(app.env.LEDGER.get(f"{number}")) for number in range(LEDGERS)]
        async with beset_by(crashing(app, chance, CRASHES)):
            await together(*(client(name, witnesses[chance.below(LEDGERS)], chance) for name in "abc"[:CLIENTS]))
        for _ in range(2):
            for witness in witnesses:
                await witness.look()
            await app.crash()


def test_acknowledged_writes_survive() -> None:
    """What was acknowledged is there after every crash, in the order in which it was, with the very bytes."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P5"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
