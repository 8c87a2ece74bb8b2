"""Channels between nodes, over a network in memory that a seed delays and faults divide."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from stead.clock import sleep
from stead.cluster import Unreachable
from stead.cluster.channel import BEAT_S, BEATS_MAX
from stead.ids import Chance
from stead.testing import MemoryNetwork, check, current_clock
from tests.cluster_nodes import Ear, Node, connect, start_nodes, stop_nodes

NOTICED_S = BEAT_S * (BEATS_MAX + 1)  # a dead peer
TALKS = 20


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
            await conversation.wait_room()
            conversation.send(self._payload())
        conversation.end()
        self.outcome = "ended" if await self.ear.over else "lost"

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


async def disturb(network: MemoryNetwork, chance: Chance) -> None:
    """One fault of a network."""
    left, right = [("a", "b"), ("a", "c"), ("b", "c")][chance.below(3)]
    if chance.below(2):
        network.cut(left, right)
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
                tasks.create_task(disturb(network, chance))
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


def test_nothing_is_lost_or_overtaken_while_channels_live() -> None:
    """In every interleaving, payloads arrive whole, once, and in the order of sending to that peer."""
    check(calm, 100)


def test_channels_come_back_and_the_loss_of_each_conversation_is_told_once() -> None:
    """Whatever breaks, nothing comes twice or out of order, each open conversation ends or is lost, and nodes meet again."""
    check(stormy, 300)


def test_a_partition_is_noticed_by_both_sides() -> None:
    """Within the beats' limit, wherever the beats stood when it came; and so is one that stops one direction only."""

    async def scene(seed: int) -> None:
        network = MemoryNetwork(seed)
        nodes = a, b = await start_nodes(network, "a", "b")
        await connect(nodes)
        ears = Ear(), Ear()
        a.peers.open(b.incarnation, b"", ears[0])
        b.peers.open(a.incarnation, b"", ears[1])
        await sleep(Chance(seed).fraction() * 3)
        network.partition(["a"], ["b"], one_way=bool(seed % 2))
        begun_s = current_clock().elapsed_s()
        assert not await ears[1].over
        assert current_clock().elapsed_s() - begun_s <= NOTICED_S + network.delay_s_max
        assert not await ears[0].over
        assert current_clock().elapsed_s() - begun_s <= NOTICED_S + 2 * network.delay_s_max
        assert not a.peers.is_connected(b.incarnation)
        with pytest.raises(Unreachable):
            a.peers.open(b.incarnation, b"", Ear())
        network.heal()
        await connect(nodes)
        await stop_nodes(nodes)

    check(scene)
