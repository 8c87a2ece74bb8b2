"""Actors leave a node: on purpose, or because nobody has asked for them for a while."""

from __future__ import annotations

import pytest

from stead import Actor, durable
from stead.clock import sleep
from stead.ids import ActorId, parse_id
from stead.testing import Cluster

pytestmark = pytest.mark.usefixtures("clock")
LEASE_S = 6.0
COUNT = 20


class Passing(Actor):
    hibernate_after_s = 1.0
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


def owned_by(cluster: Cluster, node: int) -> list[ActorId]:
    return [actor for actor in map(parse_id, cluster.database.owners) if cluster.owner(actor) == node]


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
