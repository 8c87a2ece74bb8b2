"""P3: a turn commits whole or not at all, across keys, SQL, alarms and attributes; an event that raises leaves no trace."""

from __future__ import annotations

import pytest

from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SABOTAGES, TestApp, check, find, sabotaged
from tests.properties.harness import Ledger, Witness, beset_by, crashing, evicting, failing, together

CLIENTS, OPERATIONS = 3, 4
FAILURES = ("raise", "raise", "abort", "timeout", "unstorable", "full")


async def client(name: str, witness: Witness, chance: Chance) -> None:
    """Add tokens, half of which fail somewhere, and look in between."""
    for number in range(OPERATIONS):
        fails = chance.below(2) == 0
        await witness.add(
            f"{name}{number}",
            pause_s=0.02 * chance.below(3),
            fail_at=chance.below(5) if fails else -1,
            how=FAILURES[chance.below(len(FAILURES))],
        )
        await sleep(0.1 * chance.fraction())


async def scenario(seed: int) -> None:
    """Failing and other turns from several clients, under crashes, full disks and evictions, or (each third seed) under none."""
    chance = Chance(seed)
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        witness = Witness(app.env.LEDGER.get("one"))
        faults = [] if seed % 3 == 0 else [crashing(app, chance), failing(app, chance), evicting(app, chance, witness.ledger)]
        async with beset_by(*faults):
            await together(*(client(name, witness, chance) for name in "abc"[:CLIENTS]))
        await witness.look()
        await app.crash()
        await witness.look()
        indexed = app.store.actors["ledger/one"].alarms.keys() if witness.told else set()
        assert set(witness.told) <= set(indexed), "the index of alarms misses one"


def test_a_turn_is_whole_or_nothing() -> None:
    """Whatever fails and wherever, all four places agree, failed turns are in none, acknowledged ones in all."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise in {"P3", "P5"}])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
