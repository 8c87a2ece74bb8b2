"""The operator's view of a cluster: who there is, draining, and moving actors, asked of any node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from rich.console import Console

from stead import Actor, durable
from stead.admin import (
    CUT_OFF,
    DRAINING,
    UP,
    AdminApi,
    Alone,
    ClusterNodes,
    EngineOperator,
    NodeLine,
    NodeUnits,
    RemoteOperator,
    ServerAddress,
    remote_operator,
)
from stead.cli.console import CommandFailed
from stead.cli.nodes import nodes_table, wait_drained
from stead.clock import sleep
from stead.errors import Invalid, Unavailable
from stead.ids import Chance, named_id
from stead.logic.lease import LEASE_S
from stead.storage.membership import NodeInfo
from stead.storage.shared import SharedMemoryEngine, SharedStore
from stead.testing import current_clock
from tests.cluster.nodes import Nodes, Within

pytestmark = pytest.mark.usefixtures("clock")
TOKEN = "secret"
NAMES = [f"c{number}" for number in range(12)]


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


@asynccontextmanager
async def operator_of(within: Within) -> AsyncIterator[RemoteOperator]:
    """The operator's API of one node, as a client has it."""
    nodes = ClusterNodes(within.engine, within.part)
    direct = EngineOperator(within.engine, within.part.here.clock, within.node.evict, nodes.bring)
    api = AdminApi(direct, NodeUnits(within.node), within.node.stats, TOKEN, nodes=nodes)
    transport = httpx.ASGITransport(api, client=("127.0.0.1", 1))
    async with remote_operator(ServerAddress(1, "http://localhost", TOKEN), transport) as remote:
        yield remote


async def test_any_node_lists_all() -> None:
    """By name, with what each owns; the incarnation is text, so that no reader rounds it."""
    async with Nodes.of(nodes=3, actors={"counter": Counter}) as nodes:
        for name in NAMES:
            await nodes[0].env.COUNTER.get(name).add()
        for number in range(3):
            async with operator_of(nodes[number]) as operator:
                lines = await operator.list_nodes()
            assert [(line.name, line.state, line.address) for line in lines] == [
                (f"node-{n}", UP, f"node-{n}:7000") for n in range(3)
            ]
            assert sum(line.actors for line in lines) == len(NAMES)
            assert [line.actors for line in lines] == [len(nodes[n].part.here.owned()) for n in range(3)]
            assert [int(line.incarnation) for line in lines] == [nodes[n].part.membership.incarnation for n in range(3)]
            assert all(0 < line.lease_left_s <= LEASE_S and not line.differs for line in lines)


async def test_a_drained_node_owns_nothing_and_loses_nothing() -> None:
    """Its actors go on elsewhere with what they had; uncordoned, it takes some again."""
    async with Nodes.of(nodes=3, actors={"counter": Counter}) as nodes:
        for name in NAMES:
            assert await nodes[0].env.COUNTER.get(name).add() == 1
        async with operator_of(nodes[2]) as operator:
            await operator.set_draining("node-0", True)
            assert (await operator.list_nodes())[0].state == DRAINING
            await sleep(LEASE_S)
            assert [line.actors > 0 for line in await operator.list_nodes()] == [False, True, True]
            for name in NAMES:
                assert await nodes[0].env.COUNTER.get(name).add() == 2
            assert (await operator.list_nodes())[0].actors == 0
            with pytest.raises(Invalid, match="uncordon node-0"):
                await operator.move(named_id("counter", "c0"), "node-0")
            await operator.set_draining("node-0", False)
            await sleep(LEASE_S)
            assert (await operator.list_nodes())[0].state == UP
            assert await operator.move(named_id("counter", "c0"), "node-0")
            assert nodes.holder("counter", "c0") == 0


async def test_a_node_that_is_cut_off_says_so() -> None:
    """Until it is not; who is drained as well is draining."""
    engine = SharedMemoryEngine(SharedStore(current_clock()), Chance(1))
    nodes = ClusterNodes(engine, Alone())
    await engine.join(NodeInfo("node-0", "node-0:1"), LEASE_S)
    for is_cut_off, is_draining, state in ((True, False, CUT_OFF), (True, True, DRAINING), (False, False, UP)):
        await engine.renew(is_cut_off=is_cut_off)
        await engine.set_draining("node-0", is_draining)
        assert [line.state for line in await nodes.list_nodes()] == [state]


async def test_waiting_for_a_drained_node_ends() -> None:
    """When it owns nothing, when it is gone, and at once, with a reason, where no other node could take anything."""
    async with Nodes.of(nodes=2, actors={"counter": Counter}) as nodes, operator_of(nodes[1]) as operator:
        for name in NAMES:
            await nodes[0].env.COUNTER.get(name).add()
        with pytest.raises(CommandFailed, match="node-0 takes actors again"):
            await wait_drained(operator, "node-0")
        await operator.set_draining("node-0", True)
        with pytest.raises(CommandFailed, match=r"node-0 still owns \d+ actors after 0 s, and goes on draining"):
            await wait_drained(operator, "node-0", timeout_s=0.0)
        assert await wait_drained(operator, "node-0") == 0
        assert (await operator.list_nodes())[0].actors == 0 and nodes[0].part.here.owned() == []
        await operator.set_draining("node-1", True)
        with pytest.raises(CommandFailed, match="no other node is up: the 12 actors of node-1 stay"):
            await wait_drained(operator, "node-1")
        await nodes.stop(0)
        assert await wait_drained(operator, "node-0") == 0


@pytest.mark.parametrize(("region", "labels"), [("", {}), ("eu", {}), ("", {"disk": "fast"})])
def test_the_list_of_nodes_fits_a_terminal(region: str, labels: dict[str, str]) -> None:
    """Its 80 columns, with addresses and counts as long as they usually are; no column is empty."""
    line = NodeLine(
        "pod-10", "1", "10.0.0.123:8701", "http://10.0.0.123:8700", region, labels, UP, 5.5, 12_345, "5c1f0a77e0d2a1b2", False
    )
    table = nodes_table([line])
    assert [column.header for column in table.columns if "".join(map(str, column.cells)) == ""] == []
    assert Console(width=200).measure(table).maximum <= 80


async def test_a_node_with_another_application_is_marked() -> None:
    """The one that differs from the most, whichever is asked."""
    store = SharedStore(current_clock())
    engines = [SharedMemoryEngine(store, Chance(number)) for number in range(3)]
    for number, engine in enumerate(engines):
        await engine.join(NodeInfo(f"node-{number}", f"node-{number}:1", application="new" if number == 1 else "old"), LEASE_S)
    for engine in engines:
        lines = await ClusterNodes(engine, Alone()).list_nodes()
        assert [(line.application, line.differs) for line in lines] == [("old", False), ("new", True), ("old", False)]


async def test_an_actor_is_moved_by_asking_any_node() -> None:
    """To the node that is named, whoever has it; false where nobody has it."""
    async with Nodes.of(nodes=3, actors={"counter": Counter}) as nodes:
        actor = named_id("counter", "a")
        async with operator_of(nodes[1]) as operator:
            assert not await operator.move(actor, "node-2")
            assert await nodes[0].env.COUNTER.get("a").add() == 1
            for number in (0, 2, 1, 0):
                assert await operator.move(actor, f"node-{number}")
                assert nodes.holder("counter", "a") == number
            assert await nodes[2].env.COUNTER.get("a").add() == 2


async def test_nodes_that_are_not_there_are_named() -> None:
    """With those that are."""
    async with Nodes.of(nodes=2, actors={"counter": Counter}) as nodes, operator_of(nodes[0]) as operator:
        for work in (operator.set_draining("node-7", True), operator.move(named_id("counter", "a"), "node-7")):
            with pytest.raises(Invalid, match="no live node 'node-7'; there are: node-0, node-1"):
                await work


async def test_what_needs_the_owner_works_from_any_node() -> None:
    """An actor that another node has in memory is deleted, and does not come back."""
    async with Nodes.of(nodes=3, actors={"counter": Counter}) as nodes:
        actor = named_id("counter", "a")
        for number in range(3):
            assert await nodes[0].env.COUNTER.get("a").add() == 1
            async with operator_of(nodes[0]) as mover:
                await mover.move(actor, f"node-{(number + 1) % 3}")
            async with operator_of(nodes[number]) as operator:
                await operator.delete(actor)
                with pytest.raises(Invalid, match="there is no actor"):
                    await operator.show(actor)


async def test_without_a_lease_a_node_says_so() -> None:
    """It cannot know who is there; nothing is guessed."""
    async with Nodes.of(nodes=2, actors={"counter": Counter}) as nodes, operator_of(nodes[0]) as operator:
        await nodes[0].engine.leave()
        with pytest.raises(Unavailable, match="no lease at this moment"):
            await operator.list_nodes()


async def test_a_server_alone_is_part_of_no_cluster() -> None:
    """Every question about nodes says so."""
    for work in (Alone().list_nodes(), Alone().set_draining("a", True), Alone().move(named_id("counter", "a"), "b")):
        with pytest.raises(Invalid, match="not part of a cluster"):
            await work
