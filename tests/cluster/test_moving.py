"""Actors leave a node: on purpose, or because nobody has asked for them for a while."""

from __future__ import annotations

import asyncio

import pytest

from stead import Actor, Request, Service, durable, route
from stead.clock import sleep
from stead.ids import ANSWERS_UNIT, ActorId, parse_id
from stead.testing import Cluster

pytestmark = pytest.mark.usefixtures("clock")
LEASE_S = 6.0
COUNT = 20


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


class Passing(Counter):
    hibernate_after_s = 1.0


class Shop(Service):
    @route("POST", "/{name}", idempotent="required")
    async def add(self, request: Request, name: str) -> str:
        return str(await self.env.COUNTER.get(name).add())


def owned_by(cluster: Cluster, node: int) -> list[ActorId]:
    return [actor for actor in map(parse_id, cluster.database.owners) if cluster.owner(actor) == node]


async def test_a_drain_brings_to_other_nodes_what_somebody_may_ask_for() -> None:
    """What keeps the answer to a key is nobody's after it, and still answers repeats, at any node."""
    async with Cluster.of(actors={"counter": Counter}, services={"shop": Shop}, nodes=2) as cluster:

        async def ask(node: int, number: int) -> tuple[str, str | None]:
            url, headers = f"http://shop.localhost/{number}", {"idempotency-key": f"{number}"}
            response = await cluster.client(node).post(url, headers=headers)
            return response.text, response.headers.get("idempotent-replayed")

        assert [await ask(0, number) for number in range(COUNT)] == [("1", None)] * COUNT
        had = owned_by(cluster, 0)
        answers = [actor for actor in had if actor.unit == ANSWERS_UNIT]
        assert answers and len(answers) < len(had)
        cluster.drain(0)
        async with asyncio.timeout(LEASE_S):  # before anything hibernates
            while [cluster.owner(actor) for actor in had] != [None if actor in answers else 1 for actor in had]:
                await sleep(0.1)
        assert [await ask(number % 2, number) for number in range(COUNT)] == [("1", "true")] * COUNT


async def test_where_every_node_drains_all_go_on() -> None:
    """Their actors stay, and new ones are taken in; as soon as one node takes actors again it has all of them."""
    async with Cluster.of(actors={"counter": Counter, "passing": Passing}, nodes=3) as cluster:
        counters = [cluster.env.COUNTER.get(str(number)) for number in range(COUNT)]
        passing = [cluster.env.PASSING.get(str(number)) for number in range(COUNT)]
        assert [await actor.add() for actor in counters + passing] == [1] * 2 * COUNT
        for node in range(3):
            cluster.drain(node)
        await sleep(LEASE_S)
        owners = [cluster.owner(actor) for actor in counters]
        assert None not in owners
        assert [await actor.add() for actor in counters + passing] == [2] * 2 * COUNT
        assert [await cluster.env_at(node).COUNTER.get(f"new-{node}").add() for node in range(3)] == [1] * 3
        assert [cluster.owner(actor) for actor in counters] == owners
        cluster.drain(1, False)
        await sleep(LEASE_S)
        assert {cluster.owner(actor) for actor in counters} == {1}
        assert [await actor.add() for actor in counters + passing] == [3] * 2 * COUNT
        assert {cluster.owner(actor) for actor in counters + passing} == {1}


async def test_an_actor_that_cannot_be_released_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Without a database an idle actor leaves memory all the same; whoever asks for it later has it again."""
    async with Cluster.of(actors={"passing": Passing}, nodes=2) as cluster:
        actors = [cluster.env.PASSING.get(str(number)) for number in range(COUNT)]
        assert [await actor.add() for actor in actors] == [1] * COUNT
        had = owned_by(cluster, 0)
        cluster.partition(0, "database")
        await sleep(LEASE_S * 0.6)  # it hibernates, and gives the release up, before the lease is over
        assert had and owned_by(cluster, 0) == had and cluster.stats(0)["residents"] == 0
        assert not [record.getMessage() for record in caplog.records if record.exc_info]
        cluster.heal()
        await sleep(LEASE_S)
        for node in (1, 0):
            assert [await cluster.env_at(node).PASSING.get(actor.id.name).add() for actor in actors] == [3 - node] * COUNT
