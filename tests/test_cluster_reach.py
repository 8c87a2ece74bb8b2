"""Nodes that can speak to nobody, on the virtual loop: they take nothing in, and give back what they have."""

from __future__ import annotations

import asyncio

import pytest

from stead import Actor, Unavailable, durable
from stead.clock import sleep
from stead.cluster import Reach
from stead.cluster.reach import LEASES_MISSED, MARGIN_S
from stead.cluster.routes import RETURN_S
from stead.logic.lease import LEASE_S
from stead.testing import Cluster, check

GRACE_S = LEASES_MISSED * LEASE_S + MARGIN_S
SETTLED_S = GRACE_S + LEASE_S
PROMPT_S = 0.5
NAMES = [f"c-{number}" for number in range(8)]


class Tally(Actor):
    count: int = durable(0)

    async def add(self) -> int:
        self.count += 1
        return self.count


def cluster_of(nodes: int) -> Cluster:
    return Cluster.of(actors={"tally": Tally}, nodes=nodes)


async def count(cluster: Cluster, node: int) -> set[int]:
    """Count once in every tally, through one node; what they are at."""
    env = cluster.env_at(node)
    return set(await asyncio.gather(*(env.TALLY.get(name).add() for name in NAMES)))


async def is_ready(cluster: Cluster, node: int) -> bool:
    return (await cluster.client(node).get("/_stead/ready")).status_code == 200


def test_who_reaches_nobody_gives_its_actors_back() -> None:
    """The others have every actor of a node that they have lost, though its lease holds; it is not ready and says why."""

    async def scenario(seed: int) -> None:
        async with cluster_of(3) as cluster:
            assert await count(cluster, seed % 3) == {1}
            cluster.partition(2, 0)
            cluster.partition(2, 1)
            await sleep(SETTLED_S)
            assert [await is_ready(cluster, node) for node in range(3)] == [True, True, False]
            assert await count(cluster, 0) == {2}
            assert await count(cluster, 1) == {3}
            assert await refused_s(cluster, 2, "can reach no other one") < PROMPT_S
            cluster.heal()
            await sleep(SETTLED_S)
            assert await is_ready(cluster, 2)
            assert await count(cluster, 2) == {4}

    check(scenario, 20)


def test_who_has_no_lease_keeps_nobody_waiting() -> None:
    """Without its database a node refuses at once, as long as that lasts. At the others callers wait until they have its actors."""

    async def scenario(seed: int) -> None:
        async with cluster_of(3) as cluster:
            assert await count(cluster, seed % 3) == {1}
            cluster.partition(2, "database")
            while await is_ready(cluster, 2):
                await sleep(0.1)
            lost_s = cluster.clock.elapsed_s()
            assert await count(cluster, 0) == {2}
            await sleep(max(0.0, lost_s + RETURN_S - cluster.clock.elapsed_s()))
            for _ in range(5):
                assert await refused_s(cluster, 2, "has no lease") < PROMPT_S
                await sleep(1.0)
            cluster.heal()
            await sleep(LEASE_S)
            assert await count(cluster, 2) == {3}

    check(scenario, 20)


def test_a_lease_that_comes_back_soon_refuses_nobody() -> None:
    """Whoever asks a node that has just lost its lease waits until it has one again."""

    async def scenario(seed: int) -> None:
        async with cluster_of(2) as cluster:
            assert await count(cluster, 0) == {1}
            for node in range(2):
                cluster.partition(node, "database")
            while all(ready := [await is_ready(cluster, node) for node in range(2)]):
                await sleep(0.1)
            async with asyncio.TaskGroup() as tasks:
                counted = tasks.create_task(count(cluster, ready.index(False)))
                await sleep(RETURN_S / 2)
                cluster.heal()
            assert counted.result() == {2}

    check(scenario, 20)


def test_what_was_sent_without_a_lease_is_not_in_doubt() -> None:
    """A node begins anew only when the others know that nothing runs there of what they have sent it meanwhile."""

    async def scenario(seed: int) -> None:
        async with cluster_of(2) as cluster:
            assert await count(cluster, 0) == {1}
            for node in range(2):
                cluster.partition(node, "database")
            while any([await is_ready(cluster, node) for node in range(2)]):
                await sleep(0.1)
            outcomes = [asyncio.ensure_future(count(cluster, node)) for node in range(2) for _ in range(4)]  # noqa: TID251
            await sleep(RETURN_S / 2)
            cluster.heal()
            for outcome in outcomes:
                try:
                    await outcome
                except Unavailable:
                    pass

    check(scenario, 5)


def test_who_has_no_lease_takes_nothing_in() -> None:
    """What asks a node in the time without one waits, and no actor is claimed by who it was before."""

    async def scenario(seed: int) -> None:
        async with cluster_of(1) as cluster:
            assert await count(cluster, 0) == {1}
            cluster.partition(0, "database")
            while await is_ready(cluster, 0):
                await sleep(0.1)
            async with asyncio.TaskGroup() as tasks:
                counted = tasks.create_task(count(cluster, 0))
                await sleep(RETURN_S / 2)
                part = cluster._seats[0].living().node.cluster
                assert part is not None
                assert part.here.owned() == []
                cluster.heal()
            assert counted.result() == {2}

    check(scenario, 20)


async def refused_s(cluster: Cluster, node: int, why: str) -> float:
    """How long a node takes to refuse."""
    began_s = cluster.clock.elapsed_s()
    with pytest.raises(Unavailable, match=why):
        await cluster.env_at(node).TALLY.get("c-1").add()
    return cluster.clock.elapsed_s() - began_s


def test_one_of_two_goes_on() -> None:
    """Two nodes that have lost each other: the first by name goes on with all actors, and only that one."""

    async def scenario(seed: int) -> None:
        async with cluster_of(2) as cluster:
            assert await count(cluster, seed % 2) == {1}
            cluster.partition(0, 1)
            await sleep(SETTLED_S)
            assert [await is_ready(cluster, node) for node in range(2)] == [True, False]
            assert await count(cluster, 0) == {2}
            cluster.heal()
            await sleep(SETTLED_S)
            assert await count(cluster, 1) == {3}

    check(scenario, 20)


def test_the_death_of_others_cuts_nobody_off() -> None:
    """Whoever is left when the other nodes die is ready all the while, for their leases end before it is in doubt."""

    async def scenario(seed: int) -> None:
        async with cluster_of(3) as cluster:
            left = seed % 3
            for node in {0, 1, 2} - {left}:
                await cluster.kill(node)
            for _ in range(int(4 * SETTLED_S)):
                assert await is_ready(cluster, left)
                await sleep(0.5)
            assert await count(cluster, left) == {1}

    check(scenario, 6)


def test_a_reach_that_never_doubts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise can fail: with a node that believes itself in touch its actors stay out of reach."""
    monkeypatch.setattr(Reach, "is_cut_off", False)
    with pytest.raises((AssertionError, Unavailable, ExceptionGroup)):
        test_who_reaches_nobody_gives_its_actors_back()
