"""The kit of several nodes: each fault is what it says, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from stead import Actor, Ambiguous, DurabilityLost, SteadError, Unavailable, durable
from stead.clock import sleep
from stead.errors import Invalid
from stead.logic.lease import LEASE_S
from stead.testing import Cluster, Place, check, run

HOUR_S = 3600.0
PATIENCE_S = LEASE_S + 2.0  # how long an actor may be without an owner that answers


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value

    async def now_ms(self) -> int:
        return int(self.env.now().timestamp() * 1000)

    async def fetch(self, request: Any) -> str:
        return str(self.value)


def over(*counts: int) -> Callable[[Callable[[Cluster], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """A test over a cluster of counters, with some seeds."""

    def decorate(check_one: Callable[[Cluster], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def scenario(seed: int) -> None:
            async with Cluster.of(actors={"counter": Counter}, nodes=counts[0] if counts else 3, seed=seed) as cluster:
                await check_one(cluster)

        def test() -> None:
            check(scenario, 5)

        test.__name__, test.__doc__ = check_one.__name__, check_one.__doc__
        return test

    return decorate


async def persist(work: Callable[[], Coroutine[Any, Any, Any]], cluster: Cluster) -> tuple[Any, float]:
    """The answer to what is tried until there is one, and how long that took."""
    began_s = cluster.clock.elapsed_s()
    while True:
        try:
            return await work(), cluster.clock.elapsed_s() - began_s
        except (Unavailable, Ambiguous, DurabilityLost):
            assert cluster.clock.elapsed_s() - began_s < 4 * PATIENCE_S, "it never answers"
            await sleep(0.1)


async def owned(cluster: Cluster) -> tuple[Any, int]:
    """A counter that stands at 1, and the node that has it."""
    counter = cluster.env.COUNTER.get("a")
    assert await counter.add() == 1
    owner = cluster.owner(counter)
    assert owner is not None
    return counter, owner


@over()
async def test_every_node_serves_every_actor(cluster: Cluster) -> None:
    """Calls and requests give the same actor wherever they go in, and it has one owner."""
    for number in range(9):
        assert await cluster.env_at(number % 3).COUNTER.get("a").add() == number + 1
    assert cluster.env_at(0) is cluster.env_at(0) is not cluster.env_at(1)
    for node in range(3):
        response = await cluster.client(node).get("/parties/counter/a")
        assert (response.status_code, response.text) == (200, "9")
    assert cluster.owner(cluster.env.COUNTER.get("a")) is not None
    assert cluster.owner(cluster.env.COUNTER.get("nobody's")) is None


@over()
async def test_a_killed_node_is_succeeded_and_comes_back(cluster: Cluster) -> None:
    """Its actors answer elsewhere once its lease is over, with all that was committed; its clients hear of the end."""
    counter, owner = await owned(cluster)
    client = cluster.client(owner)
    await cluster.kill(owner)
    assert not cluster.is_alive(owner)
    with pytest.raises(httpx.ConnectError):
        await client.get("/parties/counter/a")
    with pytest.raises(Unavailable):
        await cluster.env_at(owner).COUNTER.get("a").add()
    value, took_s = await persist(counter.add, cluster)
    assert value >= 2
    assert took_s < PATIENCE_S
    await cluster.restart(owner)
    assert (await client.get("/parties/counter/a")).text == str(value)
    assert cluster.owner(counter) != owner


@over()
async def test_a_stopped_node_hands_over(cluster: Cluster) -> None:
    """A node that ends in order is missed by nobody."""
    counter, owner = await owned(cluster)
    await cluster.stop(owner)
    value, took_s = await persist(counter.add, cluster)
    assert value == 2
    assert took_s < 0.5


@over()
async def test_a_node_that_drains_gives_what_it_has_to_who_can_be_reached(cluster: Cluster) -> None:
    """A frozen node is passed by, whatever its lease says; while nobody can be reached the actors stay, and then they leave."""
    counters = [cluster.env_at(0).COUNTER.get(str(number)) for number in range(12)]

    async def until_gone(limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            while any(cluster.owner(counter) == 0 for counter in counters):
                await sleep(0.1)

    assert [await counter.add() for counter in counters] == [1] * len(counters)
    cluster.pause(1)
    await sleep(LEASE_S / 2)  # its channels are over
    cluster.drain(0)
    await until_gone(LEASE_S)
    cluster.resume(1)
    await cluster.restart(0)
    for node in (1, 2):
        await cluster.kill(node)
    for counter in counters:
        await persist(counter.add, cluster)
    cluster.drain(0)
    await sleep(LEASE_S / 2)  # none has been idle for so long that it leaves memory
    assert all(cluster.owner(counter) == 0 for counter in counters)
    await cluster.restart(1)
    await until_gone(LEASE_S)
    assert [(await persist(cluster.env_at(1).COUNTER.get(counter.id.name).add, cluster))[0] for counter in counters] == [3] * 12


@over()
async def test_a_paused_node_stands_still_and_wakes(cluster: Cluster) -> None:
    """Nothing of it answers while it is paused; another takes over; awake it is fenced, and soon one of the cluster again."""
    counter, owner = await owned(cluster)
    cluster.pause(owner)
    before = cluster.database.live_owner(counter.id.text)
    other = cluster.env_at((owner + 1) % 3).COUNTER.get("a")
    value, took_s = await persist(other.add, cluster)
    assert value == 2
    assert LEASE_S * 0.7 < took_s < PATIENCE_S
    cluster.resume(owner)
    assert (await persist(cluster.env_at(owner).COUNTER.get("a").add, cluster))[0] == 3
    await sleep(LEASE_S)
    assert before not in cluster.database.nodes
    assert len(cluster.database.live()) == 3


@over()
async def test_a_partition_from_the_database(cluster: Cluster) -> None:
    """A node that cannot reach it loses its actors to others, and is back once it can."""
    counter, owner = await owned(cluster)
    cluster.partition(owner, "database")
    other = cluster.env_at((owner + 1) % 3).COUNTER.get("a")
    await sleep(LEASE_S)
    value, took_s = await persist(other.add, cluster)
    assert took_s < PATIENCE_S
    assert cluster.owner(counter) != owner
    cluster.heal()
    assert (await persist(cluster.env_at(owner).COUNTER.get("a").add, cluster))[0] > value


@over()
async def test_a_partition_between_nodes(cluster: Cluster) -> None:
    """Two nodes that cannot reach each other keep their leases; what one has the other cannot ask, until it is healed."""
    counter, owner = await owned(cluster)
    other = (owner + 1) % 3
    cluster.partition(owner, other)
    with pytest.raises(SteadError):
        await cluster.env_at(other).COUNTER.get("a").add()
    assert len(cluster.database.live()) == 3
    assert cluster.owner(counter) == owner
    cluster.heal()
    await persist(cluster.env_at(other).COUNTER.get("a").add, cluster)
    assert cluster.owner(counter) == owner


@over()
async def test_clocks_and_failover(cluster: Cluster) -> None:
    """A skewed clock is wrong for its node alone; after a failover the actors go on, and it says what it lost."""
    counter, owner = await owned(cluster)
    now_ms = cluster.clock.now_ms()
    cluster.skew_clock(owner, HOUR_S)
    assert await counter.now_ms() - now_ms > HOUR_S * 999
    assert cluster.failover() == []
    assert (await persist(counter.add, cluster))[0] >= 2
    value = (await persist(counter.add, cluster))[0]
    assert [commit.actor for commit in cluster.failover(lost=1)] == [counter.id]
    await sleep(LEASE_S)
    assert (await persist(counter.add, cluster))[0] <= value + 1


def test_wrong_uses_are_refused() -> None:
    """A partition needs another side, and a node that does not run has no answers."""

    async def main() -> None:
        async with Cluster.of(actors={"counter": Counter}, nodes=1, places=[Place("eu", {"disk": "fast"})]) as cluster:
            with pytest.raises(Invalid):
                cluster.partition(0, "elsewhere")
            [row] = cluster.database.live()
            assert (row.info.region, row.info.labels) == ("eu", {"disk": "fast"})
            await cluster.kill(0)
            with pytest.raises(Unavailable):
                await cluster.env.COUNTER.get("a").add()

    run(main)
