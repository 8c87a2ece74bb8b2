"""P5 over several nodes: an acknowledged write survives the death of any node and a synchronous failover, byte for byte."""

from __future__ import annotations

import pytest

from stead.clock import sleep
from stead.ids import Chance
from stead.testing import CLUSTER_TURN_SABOTAGES, World, check, find, sabotaged
from tests.properties.harness import Ledger, Witness, beset_by, crashing, failing, together
from tests.properties.misfortunes import CALM_S
from tests.properties.stage import CLUSTER_SEEDS, Stage
from tests.properties.test_p5_durable import client

LEDGERS, CLIENTS, ROUNDS, CRASHES, FAILURES = 2, 4, 2, 6, 3


async def scenario(seed: int) -> None:
    """Clients that write bytes while nodes die, freeze and lose the database, at commits above all."""
    chance = Chance(seed)
    async with Stage.of(actors={"ledger": Ledger}, world=World(commit_s=0.2)) as app:
        witnesses = [Witness(app.env.LEDGER.get(f"{number}")) for number in range(LEDGERS)]
        async with beset_by(crashing(app, chance, CRASHES), failing(app, chance, FAILURES)):
            for round in range(ROUNDS):
                names = [f"{round}.{number}." for number in range(CLIENTS)]
                await together(*(client(name, witnesses[chance.below(LEDGERS)], chance) for name in names))
        for _ in range(2):
            await sleep(CALM_S)
            for witness in witnesses:
                await witness.look()
            await app.crash()


def test_acknowledged_writes_survive() -> None:
    """What was acknowledged is there on whichever node is asked, in the order in which it was, with the very bytes."""
    check(scenario, CLUSTER_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P5"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(scenario)
