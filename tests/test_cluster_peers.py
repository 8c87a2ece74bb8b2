"""Channels between nodes, over a network in memory that a seed delays and faults divide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import msgspec
import pytest

from stead.clock import sleep
from stead.cluster import PAYLOAD_BYTES_MAX, WINDOW_BYTES, Unreachable
from stead.cluster.channel import BEAT_S, BEATS_MAX
from stead.cluster.conversation import UNCONSUMED_BYTES_MAX
from stead.cluster.greeting import GREETING_S
from stead.cluster.network import FULL_BYTES
from stead.errors import Invalid
from stead.ids import Chance
from stead.testing import CHANNEL_SABOTAGES, MemoryNetwork, SeededLoop, check, find, run, sabotaged
from tests.cluster_nodes import Answering, Ear, Node, connect, start_nodes, stop_nodes, tell

NOTICED_S = BEAT_S * (BEATS_MAX + 1)  # a dead peer
TALKS = 20


async def in_time(wait: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(60.0):
            await wait
    except TimeoutError as exc:
        raise AssertionError("somebody waits for ever") from exc


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[MemoryNetwork, Node, Node]]:
    """A network, and two nodes on it with a channel to each other, which are stopped in the end."""
    network = MemoryNetwork(1)
    nodes = a, b = await start_nodes(network, "a", "b")
    await connect(nodes)
    yield network, a, b
    await stop_nodes(nodes)


class Talk:
    """One conversation that a node opens: some payloads, an end, an answer that counts them."""

    def __init__(self, node: Node, peer: Node, chance: Chance) -> None:
        self.node, self.peer, self.chance = node, peer, chance
        self.ear = Ear()
        self.sent_bytes = 0
        self.outcome = "not begun"

    async def run(self) -> None:
        while True:
            assert await self.node.peers.wait_connected(self.peer.incarnation, 60.0), "the nodes do not find each other again"
            try:
                conversation = self.node.peers.open(self.peer.incarnation, self._payload(), self.ear)
            except Unreachable:
                continue  # it was lost again before this task ran
            break
        for _ in range(self.chance.below(6)):
            if self.chance.below(2):
                await sleep(self.chance.fraction() * 0.1)
            await in_time(conversation.wait_room())
            conversation.send(self._payload())
        self.ear.own_end = True
        conversation.end()
        await in_time(self.ear.over)
        self.outcome = "ended" if self.ear.has_ended else "lost"

    def _payload(self) -> bytes:
        payload = self.node.numbered(self.peer.incarnation, self.chance.below(5) * self.chance.below(50_000))
        self.sent_bytes += len(payload)
        return payload

    def check(self) -> None:
        if self.outcome == "ended":
            assert self.ear.heard == [str(self.sent_bytes).encode()], "what was sent on a living channel did not arrive whole"


def check_order(sender: Node, receiver: Node) -> None:
    """What one node sent another arrived in the order of sending, each once, whichever conversation it belongs to."""
    heard = [msgspec.msgpack.decode(payload)[0] for peer, payload in receiver.log if peer == sender.incarnation]
    assert heard == sorted(set(heard)), "payloads to a peer overtook each other, or came twice"


async def disturb(network: MemoryNetwork, nodes: list[Node], chance: Chance) -> None:
    """One fault of a network, or a process that is frozen for a while."""
    left, right = [("a", "b"), ("a", "c"), ("b", "c")][chance.below(3)]
    kind = chance.below(5)
    if kind == 0:
        network.cut(left, right)
    elif kind == 1:
        network.silence(left, right)
    elif kind == 2:
        loop, process = asyncio.get_running_loop(), nodes[chance.below(3)].process
        assert isinstance(loop, SeededLoop)
        loop.freeze(process)
        await sleep(chance.fraction() * 4)
        loop.thaw(process)
    else:
        network.partition([left], [right], one_way=not chance.below(3))
        await sleep(chance.fraction() * 4)
        network.heal()


async def chatter(seed: int, faults: bool) -> None:
    """Three nodes talk to each other all at once, while connections break; then everything heals."""
    network, chance = MemoryNetwork(seed), Chance(seed)
    nodes = await start_nodes(network, "a", "b", "c")
    talks: list[Talk] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(TALKS):
            at = chance.below(3)
            talk = Talk(nodes[at], nodes[(at + 1 + chance.below(2)) % 3], chance)
            talks.append(talk)
            tasks.create_task(talk.run())
            if faults and not chance.below(4):
                tasks.create_task(disturb(network, nodes, chance))
            await sleep(chance.fraction() * 0.3)
    network.heal()
    await sleep(2 * NOTICED_S)
    late = [Talk(node, peer, chance) for node in nodes for peer in nodes if peer is not node]
    for talk in late:
        await talk.run()
    for talk in late if faults else talks + late:
        assert talk.outcome == "ended", "a conversation is lost although its channel lives"
    await stop_nodes(nodes)
    for talk in talks + late:
        talk.check()
    for node in nodes:
        for peer in nodes:
            check_order(node, peer)
        for _, ear in node.accepted:
            assert ear.has_ended or ear.losses, "a conversation of an ended channel was forgotten"


async def calm(seed: int) -> None:
    await chatter(seed, faults=False)


async def stormy(seed: int) -> None:
    await chatter(seed, faults=True)


async def partitioned(seed: int) -> None:
    """Two nodes fall silent, and are cut off from each other, wherever their beats stand then."""
    network, chance = MemoryNetwork(seed), Chance(seed)
    nodes = a, b = await start_nodes(network, "a", "b")
    await connect(nodes)
    ears = Ear(), Ear()
    a.peers.open(b.incarnation, b"", ears[0])
    b.peers.open(a.incarnation, b"", ears[1])
    await sleep(5.0 + chance.fraction())
    assert not ears[0].losses and not ears[1].losses, "a silent channel is taken for a dead one"
    network.partition(["a"], ["b"], one_way=bool(seed % 2))
    await sleep(NOTICED_S + 2 * network.delay_s_max)
    for node, other, ear in zip(nodes, nodes[::-1], ears, strict=True):
        assert ear.losses == 1, "a dead peer is not noticed in time"
        assert not node.peers.is_connected(other.incarnation)
        with pytest.raises(Unreachable):
            node.peers.open(other.incarnation, b"", Ear())
    network.heal()
    await connect(nodes)
    await stop_nodes(nodes)


class Slow(Answering):
    """Consumes a payload now and then."""

    def received(self, payload: bytes) -> None:
        super(Answering, self).received(payload)


async def throttled(seed: int) -> None:
    """Who waits for room before each payload keeps no more than a window and a payload on the way, and gets all of it across."""
    network, chance = MemoryNetwork(seed), Chance(seed)
    nodes = a, b = await start_nodes(network, "a", "b")
    b.answer = Slow  # type: ignore[method-assign]
    await connect(nodes)
    ear, sent_bytes, consumed_bytes, size_bytes_max = Ear(), 0, 0, 1 + chance.below(200_000)
    conversation = a.peers.open(b.incarnation, b"", ear)

    async def consume(slow: Slow) -> None:
        nonlocal consumed_bytes
        consumed = 1
        while not (slow.has_ended and consumed == len(slow.heard)):
            await sleep(chance.fraction() * 0.1)
            if consumed < len(slow.heard):
                consumed_bytes += len(slow.heard[consumed])
                slow.conversation.consumed(len(slow.heard[consumed]))
                consumed += 1

    async with asyncio.TaskGroup() as tasks:
        await sleep(2 * network.delay_s_max)
        slow = b.accepted[0][1]
        assert isinstance(slow, Slow)
        tasks.create_task(consume(slow))
        for _ in range(60):
            await in_time(conversation.wait_room())
            payload = bytes(1 + chance.below(size_bytes_max))
            conversation.send(payload)
            sent_bytes += len(payload)
            assert sent_bytes - consumed_bytes <= WINDOW_BYTES + size_bytes_max, "more is on the way than the window lets through"
        conversation.end()
    assert await ear.over
    assert ear.heard == [str(sent_bytes).encode()]
    await stop_nodes(nodes)


PROPERTIES = {"order": calm, "end": stormy, "partition": partitioned, "window": throttled}


def test_nothing_is_lost_or_overtaken_while_channels_live() -> None:
    """In every interleaving, payloads arrive whole, once, and in the order of sending to that peer."""
    check(calm, 100)


def test_channels_come_back_and_the_loss_of_each_conversation_is_told_once() -> None:
    """Whatever breaks, nothing comes twice or out of order, each open conversation ends or is lost, and nodes meet again."""
    check(stormy, 300)


def test_a_partition_is_noticed_by_both_sides() -> None:
    """Within the beats' limit, also one that stops one direction only; and silence alone is no partition."""
    check(partitioned)


def test_a_slow_listener_bounds_its_sender() -> None:
    """Whatever the sizes and the pace, a sender that waits for room has a bound, and gets on."""
    check(throttled)


@pytest.mark.parametrize("name", [name for name, plant in CHANNEL_SABOTAGES.items() if plant.promise in PROPERTIES])
def test_planted_bugs_are_found(name: str) -> None:
    """Each property fails for the bugs that break it."""
    plant = CHANNEL_SABOTAGES[name]
    with sabotaged(plant):
        find(PROPERTIES[plant.promise], 300)


# -- one channel for each pair ---------------------------------------------------------------------------------------------------


def test_two_that_dial_at_once_have_one_channel() -> None:
    """However their greetings cross, one channel is left, the same for both, and it carries what each sends."""

    async def scene(seed: int) -> None:
        network, chance = MemoryNetwork(seed), Chance(seed)
        nodes = a, b = await start_nodes(network, "a", "b")
        for _ in range(5):
            await connect(nodes)
            for node, other in (nodes, nodes[::-1]):
                talk = Talk(node, other, chance)
                await talk.run()
                talk.check()
                assert talk.outcome == "ended"
            wires = [wire for wire in network._wires if wire._is_open]
            await sleep(GREETING_S)
            assert {wire.own for wire in wires if wire._is_open} == {"a", "b"} and len(network._wires) == 2
            network.cut("a", "b")
            await sleep(0.001)
        await stop_nodes(nodes)

    check(scene, 100)


def test_a_peer_that_flaps_is_dialled_less_and_less_often() -> None:
    """Who lets others in and ends each channel at once gets one a second before long; when it keeps one, dials are prompt again."""

    async def scene(seed: int) -> None:
        network, loop = MemoryNetwork(seed), asyncio.get_running_loop()
        nodes = [a, b] = await start_nodes(network, "a", "b")
        await connect(nodes)
        await sleep(2.0)
        opened = b.peers._opened
        b.peers.on_channel = lambda _: network.cut("a", "b")
        network.cut("a", "b")
        await sleep(20.0)
        assert 10 < b.peers._opened - opened < 60
        b.peers.on_channel = lambda _: None
        await connect(nodes)
        await sleep(2.0)
        network.cut("a", "b")
        began_s = loop.time()
        await sleep(0.01)
        await connect(nodes)
        assert loop.time() - began_s < 0.1
        await stop_nodes(nodes)

    check(scene, 10)


def test_a_member_that_a_list_has_missed_is_waited_for() -> None:
    """It was gone, and is a member again, as after a failover: whoever waits for it waits, and has it in the end."""

    async def scene() -> None:
        network = MemoryNetwork(1)
        nodes = [a, b] = await start_nodes(network, "a", "b")
        await connect(nodes)
        network.partition(["a"], ["b"])
        tell([a], a)
        tell(nodes, a)
        began_s = asyncio.get_running_loop().time()
        assert not await a.peers.wait_connected(b.incarnation, 0.5)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(0.5), "who asks again and again would never rest"
        network.heal()
        assert await a.peers.wait_connected(b.incarnation, 60.0)
        await stop_nodes(nodes)

    run(scene())


def test_only_members_keep_a_channel() -> None:
    """A channel to a node that is no longer listed ends, and its incarnation is not let in again."""

    async def scene() -> None:
        async with pair() as (_, a, b):
            ear = Ear()
            a.peers.open(b.incarnation, b"", ear)
            tell([a], a)
            assert ear.losses == 1
            assert not await a.peers.wait_connected(b.incarnation, 60.0)
            assert asyncio.get_running_loop().time() < 10, "it waited for a node that is no member"
            await sleep(60.0)
            assert not a.peers.is_connected(b.incarnation) and not b.peers.is_connected(a.incarnation)

    run(scene())


def test_a_node_that_has_just_joined_is_let_in() -> None:
    """It knows the others before they know it, and has two lists' time to appear."""

    async def scene() -> None:
        network = MemoryNetwork(1)
        a, b = await start_nodes(network, "a", "b")
        c = Node(network.host("c"), 103, "c")
        await c.start("c")
        tell([a, b, c], c)
        await connect([a, c])
        tell([a, b], a)  # it was asked for before
        talk = Talk(c, a, Chance(1))
        await talk.run()
        assert talk.outcome == "ended"
        tell([a, b, c], a)
        tell([a, b, c], a)
        await connect([a, c])
        tell([a, b], b)
        tell([a, b], b)
        await sleep(1.0)
        assert not b.peers.is_connected(c.incarnation) and not c.peers.is_connected(b.incarnation)
        await stop_nodes([a, b, c])

    run(scene())


def test_a_new_life_is_a_new_peer() -> None:
    """Who becomes another incarnation loses its channels, and gets new ones under the new name only."""

    async def scene() -> None:
        async with pair() as (_, a, b):
            ears = Ear(), Ear()
            a.peers.open(b.incarnation, b"", ears[0])
            b.peers.open(a.incarnation, b"", ears[1])
            b.incarnation = 202
            b.peers.become(202)
            assert ears[1].losses == 1
            await sleep(1.0)
            assert ears[0].losses == 1
            assert not a.peers.is_connected(102) and not a.peers.is_connected(202)
            tell([a, b])
            await connect([a, b])
            b.peers.become(0)
            await sleep(1.0)
            assert not a.peers.is_connected(202), "a node without a lease has a channel"

    run(scene())


def test_a_crash_is_noticed_at_once_and_a_successor_is_found() -> None:
    """The channel to a process that dies ends as soon as its machine says so; its address is another incarnation's then."""

    async def scene() -> None:
        network = MemoryNetwork(1)
        nodes = a, b = await start_nodes(network, "a", "b")
        await connect(nodes)
        ear = Ear()
        a.peers.open(b.incarnation, b"", ear)
        network.crash("b")
        await sleep(2 * network.delay_s_max)
        assert ear.losses == 1
        await b.peers.close()
        successor = Node(network.host("b"), 202, "b")
        await successor.start("b")
        await sleep(2.0)
        assert not a.peers.is_connected(102), "another incarnation was taken for the one that was wanted"
        tell([a, successor])
        await connect([a, successor])
        await stop_nodes([a, successor])

    run(scene())


# -- bounds ----------------------------------------------------------------------------------------------------------------------


def test_a_full_channel_opens_nothing_until_it_has_room() -> None:
    """Past the bound `open` refuses and nothing was sent; `wait_connected` and `wait_room` wait until the wire has room."""

    async def scene() -> None:
        async with pair() as (network, a, b):
            network.partition(["a"], ["b"], one_way=True)
            ears = []
            with pytest.raises(Unreachable, match="too much waits"):
                while True:
                    ears.append(Ear())
                    conversation = a.peers.open(b.incarnation, bytes(100_000), ears[-1])
            conversation.end()
            assert 0 <= (len(ears) - 1) * 100_000 - FULL_BYTES <= 2 * 100_000
            assert not a.peers.is_connected(b.incarnation)
            network.heal()
            assert await a.peers.wait_connected(b.incarnation, 1.0)
            await sleep(1.0)
            assert [len(ear.heard[0]) for _, ear in b.accepted] == [100_000] * (len(ears) - 1)

    run(scene())


def test_who_keeps_too_much_loses_the_conversation_only() -> None:
    """A sender that never waits and a listener that never consumes: past the bound both are told, and the channel lives."""

    async def scene() -> None:
        async with pair() as (_, a, b):
            b.answer = Slow  # type: ignore[method-assign]
            other, greedy = Ear(), Ear()
            a.peers.open(b.incarnation, b"", other)
            conversation = a.peers.open(b.incarnation, b"", greedy)
            for _ in range(UNCONSUMED_BYTES_MAX // 1_000_000 + 1):
                conversation.send(bytes(1_000_000))
            await sleep(1.0)
            assert greedy.losses == b.accepted[1][1].losses == 1
            assert not other.losses and a.peers.is_connected(b.incarnation)
            with pytest.raises(Invalid, match="bytes at most"):
                a.peers.open(b.incarnation, b"", Ear()).send(bytes(PAYLOAD_BYTES_MAX + 1))

    run(scene())


def test_an_aborted_conversation_is_lost_there_and_silent_here() -> None:
    """`abort` is the peer's `lost`; what was under way in the other direction is dropped."""

    async def scene() -> None:
        async with pair() as (_, a, b):
            ear = Ear()
            conversation = a.peers.open(b.incarnation, b"", ear)
            await sleep(0.1)
            theirs = b.accepted[0][1]
            assert isinstance(theirs, Answering)
            theirs.conversation.send(b"on the way")
            conversation.abort()
            conversation.send(b"too late")
            conversation.end()
            conversation.consumed(10)
            await conversation.wait_room()
            await sleep(0.1)
            assert theirs.losses == 1 and conversation.is_over and theirs.conversation.is_over
            assert ear.heard == [] and not ear.losses and not ear.has_ended

    run(scene())
