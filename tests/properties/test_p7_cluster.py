"""P7 over several nodes: moves, hibernation and eviction are invisible but for latency."""

from __future__ import annotations

from typing import Any

import pytest

from stead.clock import sleep
from stead.ids import Chance
from stead.testing import CLUSTER_TURN_SABOTAGES, World, check, find, sabotaged
from tests.properties.harness import beset_by, evicting
from tests.properties.misfortunes import NODES
from tests.properties.stage import CLUSTER_SEEDS, Stage
from tests.properties.test_p7_eviction import NAMES, Shelf, compare, replies, undisturbed


async def moved(seed: int) -> list[Any]:
    """What a client of one node is told while its actors are evicted and move, and other nodes stop in order."""
    chance = Chance(~seed)
    async with Stage.of(actors={"shelf": Shelf}, world=World(commit_s=0.1)) as app:
        shelves = [app.env.SHELF.get(name) for name in NAMES]
        async with beset_by(moving(app, chance), evicting(app, chance, *shelves), stopping(app, chance)):
            return await replies(app.cluster.env_at(0), Chance(seed))


async def moving(app: Stage, chance: Chance) -> None:
    while True:
        await sleep(0.3 * chance.fraction())
        await app.move_any()


async def stopping(app: Stage, chance: Chance) -> None:
    """Stop a node that is not the client's, and start it again."""
    await sleep(2.0 * chance.fraction())
    await app.cluster.stop(1 + chance.below(NODES - 1))


async def scenario(seed: int) -> None:
    """The same workload twice: on one node with everything in memory, and on several between which actors move."""
    await compare(await undisturbed(seed), moved(seed))


def test_moves_change_no_reply() -> None:
    """With and without moves and evictions between any two turns, a client is told the same."""
    check(scenario, CLUSTER_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P7"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(scenario)
