"""What the tests of channels share: nodes over a network in memory, and listeners that remember what they heard."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from stead.clock import sleep
from stead.cluster import Conversation, Keys, Listener, Network, Peers
from stead.ids import Chance
from stead.storage.membership import Member, NodeInfo
from stead.testing.loop import Process

KEYS = (b"a key that all nodes of the test share",)


class Ear:
    """A listener that checks what any listener may rely on."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.has_ended = False
        self.losses = 0
        self.own_end = False  # who speaks for it has ended too: the conversation is over
        self.over = asyncio.get_running_loop().create_future()
        self.on_payload: Callable[[bytes], object] = len

    def received(self, payload: bytes) -> None:
        assert not self.has_ended and not self.losses, "a payload came after the end"
        self.on_payload(payload)
        self.heard.append(payload)

    def ended(self) -> None:
        assert not self.has_ended and not self.losses, "the end came twice"
        self.has_ended = True
        self.over.set_result(True)

    def lost(self) -> None:
        self.losses += 1
        assert self.losses == 1, "a conversation was lost twice"
        assert not (self.has_ended and self.own_end), "a conversation was lost that was over"
        if not self.over.done():
            self.over.set_result(False)


class Answering(Ear):
    """Sends back how many bytes it heard, opening included, once its peer has ended."""

    def __init__(self, opening: bytes, conversation: Conversation) -> None:
        super().__init__()
        conversation.consumed(len(opening))
        self.heard.append(opening)
        self.conversation = conversation

    def received(self, payload: bytes) -> None:
        super().received(payload)
        self.conversation.consumed(len(payload))

    def ended(self) -> None:
        super().ended()
        self.conversation.send(str(sum(map(len, self.heard))).encode())
        self.own_end = True
        self.conversation.end()


class Node:
    """A node whose peers' conversations are `accepted`; it answers each with `Answering` unless `answer` is set."""

    def __init__(self, network: Network, incarnation: int, name: str, keys: Keys = KEYS) -> None:
        self.name = name
        self.process = Process(name)
        self.incarnation = incarnation
        self.peers = Peers(network, keys, Chance(incarnation))
        self.peers.on_conversation = self._accept
        self.peers.on_channel = lambda _: None
        self.accepted: list[tuple[int, Ear]] = []
        self.log: list[tuple[int, bytes]] = []  # all that was heard, in order, with who sent it
        self.serials: dict[int, int] = defaultdict(int)  # of what was sent to each peer
        self.address = ""

    async def start(self, address: str) -> None:
        self.address = await self.peers.listen(address)
        self.peers.become(self.incarnation)

    @property
    def member(self) -> Member:
        return Member(self.incarnation, NodeInfo(self.name, self.address), False, 5.0)

    def answer(self, opening: bytes, conversation: Conversation) -> Ear:
        return Answering(opening, conversation)

    def _accept(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        self.log.append((peer, opening))
        ear = self.answer(opening, conversation)
        ear.on_payload = lambda payload: self.log.append((peer, payload))
        self.accepted.append((peer, ear))
        return ear

    def numbered(self, peer: int, size_bytes: int) -> bytes:
        """A payload that says which of this node's payloads to `peer` it is."""
        self.serials[peer] += 1
        return msgspec.msgpack.encode([self.serials[peer], b"." * size_bytes])


async def start_nodes(network: object, *addresses: str) -> list[Node]:
    """Nodes of the incarnations 101, 102 … that know each other; `network` has the `host` of each address."""
    nodes = [Node(network.host(address), 101 + at, address) for at, address in enumerate(addresses)]  # type: ignore[attr-defined]
    for node in nodes:
        await asyncio.get_running_loop().create_task(node.start(node.name), context=node.process.context())
    tell(nodes)
    return nodes


def tell(nodes: Sequence[Node], *told: Node) -> None:
    """Give `told`, all of them if none is named, the list of `nodes`."""
    for node in told or nodes:
        node.peers.update([member.member for member in nodes])


async def connect(nodes: Sequence[Node]) -> None:
    """Until each has a channel to each other."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                assert await node.peers.wait_connected(other.incarnation, 10.0), f"{node.name} has no channel to {other.name}"


async def stop_nodes(nodes: Sequence[Node]) -> None:
    for node in nodes:
        await node.peers.close()
    await sleep(0.1)  # for the last word of each to arrive
