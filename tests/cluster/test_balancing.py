"""Who is a newcomer, and what stays where it is."""

from __future__ import annotations

import pytest

from stead import Actor, durable
from stead.clock import sleep
from stead.cluster.balancing import SETTLE_S
from stead.ids import named_id
from tests.cluster.nodes import Nodes

pytestmark = pytest.mark.usefixtures("clock")

NAMES = [f"c{number}" for number in range(16)]
HEARD_S = 3.0  # until a node sees a mark on its row


class Worker(Actor):
    hibernate_after_s = 600.0
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value

    async def work(self, for_s: float) -> None:
        self.ctx.spawn(self._work(for_s))

    async def _work(self, for_s: float) -> None:
        await sleep(for_s)
        async with self.ctx.turn():
            self.value += 100


async def test_a_node_that_is_uncordoned_gets_its_share_again() -> None:
    """Draining takes everything from it; afterwards it has what it had, and who calls sees neither."""
    async with Nodes.of(nodes=2, actors={"worker": Worker}) as nodes:
        stubs = [nodes[0].env.WORKER.get(name) for name in NAMES]
        for stub in stubs:
            await stub.add()
        before = [nodes.holder("worker", name) for name in NAMES]
        assert set(before) == {0, 1}
        nodes.drain(1)
        await sleep(HEARD_S)
        assert {nodes.holder("worker", name) for name in NAMES} == {0}
        nodes.drain(1, False)
        await sleep(HEARD_S + 2 * SETTLE_S + 1)
        assert [nodes.holder("worker", name) for name in NAMES] == before
        assert [await stub.add() for stub in stubs] == [2] * len(stubs)


async def test_what_works_outside_turns_stays() -> None:
    """Its work is not cut off; what was moved by hand stays as well."""
    async with Nodes.of(nodes=3, actors={"worker": Worker}) as nodes:
        busy, by_hand = [name for name in NAMES if await _home(nodes, name) == 2][:2]
        await nodes.stop(2)
        stub = nodes[0].env.WORKER.get(busy)
        await stub.work(60.0)
        await nodes.restart(2)
        await sleep(HEARD_S)
        await nodes[0].env.WORKER.get(by_hand).add()
        was_at = nodes.holder("worker", by_hand)
        assert was_at in {0, 1}
        assert await nodes.move(named_id("worker", by_hand), 1 - was_at)
        await sleep(SETTLE_S * 2)
        assert nodes.holder("worker", busy) in {0, 1}
        assert nodes.holder("worker", by_hand) == 1 - was_at
        await sleep(60.0)
        assert await stub.add() == 102


async def _home(nodes: Nodes, name: str) -> int | None:
    await nodes[0].env.WORKER.get(name).add()
    return nodes.holder("worker", name)
