"""Clients stay with the node where they connected, whatever becomes of their actor's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, ClassVar

import pytest

from stead import Actor, Overloaded, Request, Socket, codec, durable
from stead.clock import sleep
from stead.cluster import Conversation
from stead.cluster.far_edge import UNHEARD_BYTES_MAX, FarEdge
from stead.cluster.wire import ForSockets, Gather, Opening, encode
from stead.cluster.words import Closes, Gone, Handled, Joined, Keeps, Sent, Welcome, decode_from_owner
from stead.events import Frame
from stead.ids import named_id
from stead.runtime import Kept
from stead.testing import Cluster, Peer, World, check
from stead.testing.cluster import DATABASE
from tests.cluster.nodes import Nodes

pytestmark = pytest.mark.usefixtures("clock")


class Room(Actor):
    """Remembers who said what, and how often each hook ran."""

    lines: list[str] = durable(factory=list)
    ran: ClassVar[list[tuple[str, str]]] = []

    async def on_start(self) -> None:
        self.ctx.auto_reply("ping", "pong")

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        return [request.query_params.get("tag", "none")]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        self.ran.append(("connect", socket.id))
        socket.set_state({"said": 0})
        self.broadcast(f"{socket.id} joined", exclude=[socket])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.ran.append(("message", f"{socket.id} {message!s}"))
        self.lines.append(f"{socket.id}: {message!s}")
        socket.set_state(lambda state: {"said": state["said"] + 1})
        socket.attachment = str(message)
        self.broadcast(f"{socket.id}: {message!s}")

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.ran.append(("close", f"{socket.id} {code}"))
        self.broadcast(f"{socket.id} left {code}")

    async def on_error(self, socket: Socket, error: Exception) -> None:
        self.ran.append(("error", socket.id))

    async def say(self, text: str, tag: str | None = None) -> int:
        self.broadcast(text, tag=tag)
        return len(self.sockets())

    async def who(self) -> list[Any]:
        return [[socket.id, socket.state, socket.attachment, *socket.tags] for socket in self.sockets()]


@pytest.fixture(autouse=True)
def fresh() -> None:
    Room.ran = []


def room_of(nodes: Nodes, at: int, name: str = "r") -> Any:
    return nodes[at].env.ROOM.get(name)


async def owned_by(nodes: Nodes, owner: int, name: str = "r") -> None:
    """Let a node have the room."""
    await room_of(nodes, owner, name).say("hello")
    if nodes.holder("room", name) != owner:
        await nodes.move(named_id("room", name), owner)
    assert nodes.holder("room", name) == owner


async def test_clients_of_every_node_are_in_one_room() -> None:
    """What is said at one edge reaches all of them, states and tags are everywhere, and closings come back."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        peers = [Peer(nodes[at].node, room_of(nodes, at), f"c{at}", f"tag=t{at % 2}") for at in range(3)]
        await sleep(1)
        for peer in peers:
            peer.post("hi")
        await sleep(1)
        said = {f"c{at}: hi" for at in range(3)}
        assert all(said <= set(peer.received) for peer in peers)
        assert await room_of(nodes, 2).say("even", "t0") == 3
        await sleep(1)
        assert [peer.received.count("even") for peer in peers] == [1, 0, 1]
        assert sorted(await room_of(nodes, 0).who()) == [[f"c{at}", {"said": 1}, "hi", f"t{at % 2}", f"c{at}"] for at in range(3)]
        peers[0].post("ping")
        peers[2].leave(4001, "bye")
        await sleep(1)
        assert peers[0].received[-2:] == ["pong", "c2 left 4001"] or peers[0].received[-2:] == ["c2 left 4001", "pong"]
        assert Room.ran.count(("connect", "c0")) == 1


async def test_an_owner_dies_and_nobody_is_disconnected() -> None:
    """Its clients elsewhere stay, with their states; what they say next arrives at the next owner."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        peers = [Peer(nodes[at].node, room_of(nodes, at), f"c{at}") for at in (0, 2)]
        await sleep(1)
        for peer in peers:
            peer.post("before")
        await sleep(1)
        await nodes.kill(1)
        await sleep(3)  # until that is noticed: what is said before may be lost
        for peer in peers:
            peer.post("after")
        await sleep(6)
        assert [peer.closing for peer in peers] == [None, None]
        assert nodes.holder("room", "r") in {0, 2}
        for peer in peers:
            assert sorted(line for line in peer.received if "after" in str(line)) == ["c0: after", "c2: after"]
        assert sorted(await room_of(nodes, 0).who()) == [[f"c{at}", {"said": 2}, "after", "none", f"c{at}"] for at in (0, 2)]
        assert sorted(ran for ran in Room.ran if ran[0] == "connect") == [("connect", "c0"), ("connect", "c2")]


async def test_the_first_turn_of_a_new_owner_reaches_everyone() -> None:
    """A call that makes a node the owner finds all connections there, although nobody had told it of them."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        peers = [Peer(nodes[at].node, room_of(nodes, at), f"c{at}") for at in (0, 2)]
        await sleep(1)
        await nodes.kill(1)
        while True:
            try:
                assert await room_of(nodes, 0).say("first") == 2
                break
            except Exception as exc:  # noqa: BLE001
                assert type(exc).__name__ in {"Unavailable", "Ambiguous"}, exc
                await sleep(0.1)
        await sleep(1)
        assert [peer.received.count("first") for peer in peers] == [1, 1]


async def test_a_moved_actor_takes_its_clients_along() -> None:
    """Nothing is lost, doubled or out of order, and nobody notices."""
    async with Nodes.of(nodes=3, actors={"room": Room}, world=World(commit_s=0.01)) as nodes:
        await owned_by(nodes, 1)
        peers = [Peer(nodes[at].node, room_of(nodes, at), f"c{at}") for at in range(3)]
        await sleep(1)
        for number in range(30):
            for peer in peers:
                peer.post(str(number))
            if number % 10 == 5:
                owner = nodes.holder("room", "r")
                assert owner is not None
                nodes[owner].part.here.tasks.start(nodes.move(named_id("room", "r"), (owner + 1) % 3))
            await sleep(0.02)
        await sleep(3)
        for peer in peers:
            assert peer.closing is None
            for at in range(3):
                assert [line for line in peer.received if str(line).startswith(f"c{at}:")] == [f"c{at}: {n}" for n in range(30)]
        assert {ran: Room.ran.count(ran) for ran in set(Room.ran)} == dict.fromkeys(Room.ran, 1)


async def test_a_dead_edge_ends_its_connections() -> None:
    """`on_close` runs once for each, with 1006."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        here, there = Peer(nodes[1].node, room_of(nodes, 1), "here"), Peer(nodes[2].node, room_of(nodes, 2), "there")
        await sleep(1)
        await nodes.kill(2)
        await sleep(9)
        assert there.closing is None  # its process is gone, nobody could say anything
        assert here.received[-1] == "there left 1006"
        assert [ran for ran in Room.ran if ran[0] == "close"] == [("close", "there 1006")]
        assert await room_of(nodes, 0).say("x") == 1


async def test_a_channel_that_breaks_costs_nothing() -> None:
    """Between an edge and an owner that live both: nothing is lost or doubled, either way."""
    async with Nodes.of(nodes=2, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        far = Peer(nodes[0].node, room_of(nodes, 0), "far")
        await sleep(1)
        for number in range(60):
            far.post(str(number))
            await room_of(nodes, 1).say(f"said {number}")
            if number % 20 == 10:
                nodes.network.cut("node-0:7000", "node-1:7000")
            await sleep(0.01)
        await sleep(3)
        assert far.closing is None
        assert [line for line in far.received if str(line).startswith("said")] == [f"said {n}" for n in range(60)]
        assert [line for line in far.received if str(line).startswith("far:")] == [f"far: {n}" for n in range(60)]


async def test_an_id_is_taken_over_at_another_edge() -> None:
    """The newer connection of an id is the one, wherever it comes in."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        older = Peer(nodes[0].node, room_of(nodes, 0), "ann")
        await sleep(1)
        newer = Peer(nodes[2].node, room_of(nodes, 2), "ann")
        await sleep(1)
        assert older.closing == (1008, "taken over by a newer connection")
        assert newer.closing is None
        assert [ran[0] for ran in Room.ran] == ["connect", "close", "connect"]


async def test_a_node_that_stops_sends_its_own_clients_away_only() -> None:
    """1012 for those, after what they had sent; the others stay with the next owner."""
    async with Nodes.of(nodes=3, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        own, other = Peer(nodes[1].node, room_of(nodes, 1), "own"), Peer(nodes[2].node, room_of(nodes, 2), "other")
        await sleep(1)
        own.post("last")
        await nodes.stop(1)
        await sleep(1)
        assert own.closing == (1012, "the server is restarting")
        assert other.closing is None
        assert other.received[-2:] == ["own: last", "own left 1012"]


async def test_a_hibernating_room_stays_with_its_connections() -> None:
    """Its owner keeps it, and wakes it for a client of another node; so it may be moved while it sleeps."""
    async with Nodes.of(nodes=2, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        far = Peer(nodes[0].node, room_of(nodes, 0), "far")
        await sleep(1)
        far.post("one")
        await sleep(1)
        assert nodes[1].node.evict(named_id("room", "r"))
        assert nodes.holder("room", "r") == 1
        far.post("two")
        await sleep(1)
        assert nodes[1].node.evict(named_id("room", "r"))
        assert await nodes.move(named_id("room", "r"), 0)
        far.post("three")
        await sleep(1)
        assert nodes.holder("room", "r") == 0
        assert far.received[-3:] == ["far: one", "far: two", "far: three"]
        assert await room_of(nodes, 1).who() == [["far", {"said": 3}, "three", "none", "far"]]


class Small(Room):
    sockets_max = 3


async def test_the_most_sockets_are_those_of_all_edges() -> None:
    """One too many is refused at the owner's own node, and closed with 1013 at another, which cannot know."""
    async with Nodes.of(nodes=2, actors={"room": Small}) as nodes:
        await owned_by(nodes, 1)
        peers = [Peer(nodes[at % 2].node, room_of(nodes, at % 2), f"c{at}") for at in range(3)]
        await sleep(1)
        with pytest.raises(Overloaded):
            Peer(nodes[1].node, room_of(nodes, 1), "near")
        far = Peer(nodes[0].node, room_of(nodes, 0), "far")
        await sleep(1)
        assert far.closing is not None
        assert far.closing[0] == 1013
        assert [peer.closing for peer in peers] == [None] * 3
        peers[0].leave()
        await sleep(1)
        assert await room_of(nodes, 0).say("x") == 2
        assert ("connect", "far") not in Room.ran


async def test_what_an_edge_out_of_reach_is_sent_is_bounded() -> None:
    """Past the limit its clients are closed with 1013, once they can be reached; those of other nodes hear everything."""
    async with Nodes.of(nodes=2, actors={"room": Room}) as nodes:
        await owned_by(nodes, 1)
        near, far = Peer(nodes[1].node, room_of(nodes, 1), "near"), Peer(nodes[0].node, room_of(nodes, 0), "far")
        await sleep(1)
        nodes.partition(0, 1)
        size_bytes = 8 * 1024 * 1024
        for number in range(UNHEARD_BYTES_MAX // size_bytes + 2):
            await room_of(nodes, 1).say(str(number) * size_bytes)
        assert len(near.received) > UNHEARD_BYTES_MAX // size_bytes
        nodes.heal()
        await sleep(5)
        assert far.closing == (1013, "too much waits to be read")
        assert near.closing is None
        assert [ran for ran in Room.ran if ran[0] == "close"] == [("close", "far 1013")]
        assert await room_of(nodes, 0).say("x") == 1


def test_a_client_that_does_not_read_costs_nobody_else() -> None:
    """At another node than its actor's owner it is closed with 1013 as at the same one; the others of that node go on."""

    async def scenario(seed: int) -> None:
        async with Cluster.of(actors={"room": Room}, nodes=2, seed=seed) as cluster:
            room = cluster.env_at(1).ROOM.get("r")
            edge = 1 - (await owner_of(cluster, room))
            slow, other = await cluster.connect(edge, "/parties/room/r"), await cluster.connect(edge, "/parties/room/r")
            await sleep(1)
            slow.pause_reading()
            for number in range(12):
                await room.say(str(number % 10) * 1024 * 1024)
                while len(await other.receive()) < 1024 * 1024:
                    pass
            slow.resume_reading()
            await slow.wait_closed()
            assert slow.close_code == 1013
            assert other.is_open
            assert await room.say("x") == 1

    check(scenario, 3)


async def owner_of(cluster: Cluster, room: Any) -> int:
    await room.say("hello")
    owner = cluster.owner(room)
    assert owner is not None
    return owner


def test_an_edge_that_was_taken_for_dead_sends_its_clients_away() -> None:
    """Its lease was over, and `on_close` has run for them: they connect again, as new ones."""

    async def scenario(seed: int) -> None:
        Room.ran = []
        async with Cluster.of(actors={"room": Room}, nodes=2, seed=seed) as cluster:
            room = cluster.env_at(0).ROOM.get("r")
            owner = await owner_of(cluster, room)
            edge = 1 - owner
            client = await cluster.connect(edge, "/parties/room/r", id="far")
            await sleep(1)
            cluster.partition(edge, owner)
            cluster.partition(edge, DATABASE)
            await sleep(12)
            assert [ran for ran in Room.ran if ran[0] == "close"] == [("close", "far 1006")]
            cluster.heal()
            await client.wait_closed()
            assert client.close_code == 1012
            assert len(Room.ran) == 2, Room.ran

    check(scenario, 10)


class Wireless:
    """What a conversation writes to: it remembers everything."""

    is_full = False

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def put(self, kind: int, number: int, value: int | bytes) -> None:
        if isinstance(value, bytes):
            self.payloads.append(value)

    def put_end(self, number: int) -> None:
        return

    def forget(self, number: int) -> None:
        return


async def test_a_broadcast_crosses_the_channel_once() -> None:
    """For each edge, whatever the number of its sockets, and with what the owner says before and after it in order."""
    wireless = Wireless()
    edge = FarEdge(None)  # type: ignore[arg-type] # which is told nothing here
    edge.attach(Conversation(wireless, 1))
    edge.welcome(7)
    frame, kept = Frame("to all"), Kept(b"state")
    edge.kept(1, kept)
    for number in range(200):
        edge.sent(number, frame)
    edge.sent(5, Frame("to one"))
    edge.handled(1, 1)
    edge.handled(1, 2)
    await sleep(0.1)
    assert [decode_from_owner(payload) for payload in wireless.payloads] == [
        Welcome(7, 0),
        Keeps(1, b"state", None),
        Sent(list(range(200)), "to all"),
        Sent([5], "to one"),
        Handled([(1, 2)]),
    ]


class Plain(Actor):
    async def wait(self) -> str:
        await sleep(3)
        return "done"


class Heard:
    """What a peer says in one conversation."""

    def __init__(self) -> None:
        self.words: list[object] = []
        self.is_lost = False

    def received(self, payload: bytes) -> None:
        self.words.append(decode_from_owner(payload))

    def ended(self) -> None:
        return

    def lost(self) -> None:
        self.is_lost = True


async def test_what_makes_no_sense_ends_its_own_conversation_only() -> None:
    """As between nodes of two versions, one of which knows no connections of an actor. All else on the channel goes on."""
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [], "scheme": "ws", "server": ("localhost", 80)}
    async with Nodes.of(nodes=2, actors={"plain": Plain}) as nodes:
        plain = nodes.env_at(0).PLAIN.get("a")
        await plain.wait()
        if nodes.owner(plain) != 1:
            assert await nodes.move(plain, 1)
        waiting = asyncio.gather(plain.wait())
        await sleep(1)

        def say(opening: Opening, joined: bytes | None = None) -> Heard:
            heard = Heard()
            conversation = nodes[0].part._peers.open(nodes[1].engine.incarnation, encode(opening), heard)
            if joined is not None:
                conversation.send(encode(Joined(1, "x", joined)))
            return heard

        senseless = [say(ForSockets("..", 1, 0, 0)), say(Gather("")), say(ForSockets("plain/a", 1, 0, 0), b"no value")]
        turned_away = say(ForSockets("plain/a", 2, 0, 0), codec.encode(scope))
        await sleep(0.5)
        assert all(heard.is_lost for heard in senseless) and not turned_away.is_lost
        [welcome, closes, gone] = turned_away.words
        assert isinstance(welcome, Welcome) and isinstance(closes, Closes) and isinstance(gone, Gone)
        assert closes.code == 1013 and "has no on_connect()" in closes.reason
        assert [*await waiting] == ["done"]
