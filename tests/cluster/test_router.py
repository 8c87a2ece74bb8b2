"""Events find their actor, whichever node they come to."""

from __future__ import annotations

from typing import Any

import pytest

from stead import Actor, durable, reads
from stead.clock import sleep
from stead.ids import named_id
from tests.cluster.nodes import Nodes

pytestmark = pytest.mark.usefixtures("clock")


class Counter(Actor):
    value: int = durable(0)

    async def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    @reads
    async def read(self) -> int:
        return self.value


async def test_one_actor_serves_callers_on_every_node() -> None:
    """Calls on any node run on the one that has the actor; each sees what the others did."""
    async with Nodes(3, actors={"counter": Counter}) as nodes:
        for number in range(30):
            assert await nodes[number % 3].env.COUNTER.get(f"c{number // 6}").add() == number % 6 + 1
        owners = {name: nodes.owner("counter", name) for name in ("c0", "c1", "c2", "c3", "c4")}
        assert None not in owners.values()
        assert len(set(owners.values())) > 1, "all actors are on one node"


async def test_an_actor_moves_and_nobody_notices() -> None:
    """Calls before, during and after a move are answered in order by whoever has the actor then."""
    async with Nodes(2, actors={"counter": Counter}) as nodes:
        actor = named_id("counter", "a")
        assert await nodes[0].env.COUNTER.get("a").add() == 1
        before = nodes.owner("counter", "a")
        assert before is not None
        assert await nodes[0].part.move(actor, f"n{1 - before}")
        assert nodes.owner("counter", "a") == 1 - before
        for life in nodes.lives.values():
            await life.env.COUNTER.get("a").add()
        assert await nodes[before].env.COUNTER.get("a").read() == 3


async def test_a_node_that_stops_hands_its_actors_over() -> None:
    """Stopping a node is a move of all it has: callers elsewhere see no error, before, during or after."""
    async with Nodes(3, actors={"counter": Counter}) as nodes:
        counters: list[Any] = [nodes[1].env.COUNTER.get(f"c{number}") for number in range(12)]
        for counter in counters:
            await counter.add()
        await nodes.stop(0)
        assert [await counter.add() for counter in counters] == [2] * 12


async def test_a_dead_nodes_actors_are_taken_over_when_its_lease_is_over() -> None:
    """Nothing answers for them before; then another node has them, with all that was acknowledged."""
    async with Nodes(3, actors={"counter": Counter}) as nodes:
        counters: list[Any] = [nodes[1].env.COUNTER.get(f"c{number}") for number in range(12)]
        for counter in counters:
            await counter.add()
        began_s = nodes.clock.elapsed_s()
        await nodes.kill(0)
        await sleep(1)  # until the loss of the channel is noticed: what is sent before may have run
        assert [await counter.add() for counter in counters] == [2] * 12
        assert nodes.clock.elapsed_s() - began_s <= 8.0
