"""A node that joins gets its share of the actors: slowly, the busy ones first, each once, and nobody who calls them sees it."""

from __future__ import annotations

import asyncio

import pytest

from stead import Actor, durable
from stead.clock import sleep
from stead.cluster.balancing import MOVES_AT_ONCE, MOVES_PER_S, SETTLE_S
from stead.testing import CLUSTER_SABOTAGES, Cluster, World, check, find, sabotaged
from tests.properties.harness import together

ACTORS, HOT = 300, 30
HOT_PAUSE_S, COLD_PAUSE_S = 0.5, 4.0
BETWEEN_S = 0.001  # two calls, of which the first may wait still
SAMPLE_S = 0.25
FLAPS, FLAP_S = 3, SETTLE_S - 2  # a heartbeat later than the change itself its neighbours hear of it
HEARD_S = 2.0
DEVIATION = 0.15  # of a third
SEEDS = 3
NEWCOMER = 2


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


class Watch:
    """Where the actors are, and since when."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stubs = [cluster.env.COUNTER.get(f"c{number}") for number in range(ACTORS)]
        self.owners = self._look()
        self.moved_s: dict[int, float] = {}

    def _look(self) -> list[int | None]:
        return [self._cluster.owner(stub) for stub in self._stubs]

    async def watch(self, for_s: float, moves_max: int) -> None:
        """Check that each actor moves once at most, to the newcomer, and no more than so many between two looks."""
        until_s = self._cluster.clock.elapsed_s() + for_s
        while self._cluster.clock.elapsed_s() < until_s:
            await sleep(SAMPLE_S)
            before, self.owners = self.owners, self._look()
            # An actor is nobody's for a moment while it moves.
            self.owners = [old if new is None else new for old, new in zip(before, self.owners, strict=True)]
            moved = [number for number in range(ACTORS) if before[number] != self.owners[number]]
            assert len(moved) <= moves_max, f"{len(moved)} actors moved within {SAMPLE_S} s"
            assert all(self.owners[number] == NEWCOMER for number in moved), "an actor moved between nodes that were there"
            self.moved_s |= dict.fromkeys(moved, self._cluster.clock.elapsed_s())


async def call(cluster: Cluster, number: int, phase_s: float, over: asyncio.Event) -> None:
    """Add one to a counter again and again; every answer is one more than the one before."""

    async def add_later() -> int:
        await sleep(BETWEEN_S)
        return int(await stub.add())

    pause_s, value = HOT_PAUSE_S if number < HOT else COLD_PAUSE_S, 0
    stub = cluster.env_at(number % 2).COUNTER.get(f"c{number}")
    await sleep(phase_s * pause_s)
    while not over.is_set():
        both = list(await asyncio.gather(stub.add(), add_later()))
        assert both == [value + 1, value + 2], f"the counter {number} went from {value} to {both}"
        value += 2
        await sleep(pause_s)


async def joining(seed: int) -> None:
    """Two nodes under load, a third that comes and goes, and then stays."""
    async with Cluster.of(actors={"counter": Counter}, nodes=3, seed=seed, world=World(commit_s=0.002)) as cluster:
        await cluster.stop(NEWCOMER)
        over = asyncio.Event()

        async def watch() -> None:
            try:
                await sleep(COLD_PAUSE_S * 1.5)  # until each has been called
                seen = Watch(cluster)
                for _ in range(FLAPS):
                    await cluster.restart(NEWCOMER)
                    await seen.watch(FLAP_S, 0)
                    await cluster.kill(NEWCOMER)
                await cluster.restart(NEWCOMER)
                in_a_sample = 2 * (SAMPLE_S * MOVES_PER_S + 1) + 2 * MOVES_AT_ONCE
                await seen.watch(HEARD_S + SETTLE_S + ACTORS / MOVES_PER_S, int(in_a_sample))
                await seen.watch(3 * SETTLE_S, 0)
                check_shares(seen)
            finally:
                over.set()

        await together(watch(), *(call(cluster, number, number / ACTORS, over) for number in range(ACTORS)))


def check_shares(seen: Watch) -> None:
    """The busy ones went first, and now all nodes have about as many."""
    hot = [seen.moved_s[number] for number in range(HOT) if number in seen.moved_s]
    cold = [seen.moved_s[number] for number in range(HOT, ACTORS) if number in seen.moved_s]
    assert max(hot) <= min(cold) + 2 * SAMPLE_S, "a busy actor moved after idle ones"
    for node in range(3):
        assert abs(seen.owners.count(node) - ACTORS / 3) <= ACTORS / 3 * DEVIATION, [seen.owners.count(node) for node in range(3)]


def test_a_node_that_joins_gets_its_share() -> None:
    """No call fails or overtakes another, nothing moves before the members have settled, and in the end nothing moves any more."""
    check(joining, SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_SABOTAGES.items() if plant.promise == "balance"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each way of moving too much, too soon or in the wrong order is seen."""
    with sabotaged(CLUSTER_SABOTAGES[name]):
        find(joining, SEEDS)
