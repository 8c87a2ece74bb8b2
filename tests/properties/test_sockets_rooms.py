"""P7, P9 and P10 of sockets: hibernation is invisible to clients, rooms never meet, and a flood is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from stead import Actor, Overloaded, Request, Socket, durable
from stead.clock import sleep
from stead.events import Frame
from stead.ids import Chance
from stead.testing import SOCKET_SABOTAGES, Peer, TestApp, World, check, find, sabotaged
from tests.properties.harness import Started, beset_by, evicting, holding, together
from tests.properties.test_p9_isolation import names_of

OPERATIONS, CLIENTS = 20, 4
FLOOD, WAITING_MAX, OTHERS = 200, 8, 4


class Room(Actor):
    """Knows a bit of everything: tags, state, what was said."""

    said: int = durable(0)

    async def on_start(self) -> None:
        self.ctx.auto_reply("ping", "pong")

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        return ["even" if int(request.query_params["n"]) % 2 == 0 else "odd"]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.set_state({"n": request.query_params["n"], "said": 0})
        self.broadcast(f"{socket.id} joined {len(self.sockets())}", exclude=[socket])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.said += 1
        socket.set_state(lambda state: {**state, "said": state["said"] + 1})
        socket.attachment = self.said
        kind, _, rest = str(message).partition(" ")
        if kind == "tag":
            self.broadcast(f"to {rest}", tag=rest, exclude=[socket.id])
        elif kind == "fail":
            socket.set_state(None)
            raise ValueError(rest)
        elif kind == "close":
            socket.close(4000, rest)
        else:
            there = [[other.id, other.state, other.attachment, *other.tags] for other in self.sockets()]
            socket.send([self.said, socket.uri, there])

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.broadcast(f"{socket.id} left {code} {reason} {socket.state['said']}")


# -- P7 ----------------------------------------------------------------------------------------------------------------------------


async def seen(seed: int, *, evicts: bool) -> list[Any]:
    """What clients see who act one after the other, with and without evictions in between."""
    chance, eviction = Chance(seed), Chance(~seed)
    peers: list[Peer] = []
    async with TestApp.of(actors={"room": Room}, world=World(commit_s=0.02)) as app:
        room = app.env.ROOM.get("r")
        async with beset_by(*([evicting(app, eviction, room, pause_s=0.3)] if evicts else [])):
            for number in range(OPERATIONS):
                open_peers = [peer for peer in peers if peer.closing is None and not peer.is_gone]
                choice = chance.below(8)
                peer = open_peers[chance.below(len(open_peers))] if open_peers else None
                if peer is None or (choice == 0 and len(open_peers) < CLIENTS):
                    peers.append(Peer(app, room, f"client {chance.below(CLIENTS)}", f"n={number}"))
                elif choice == 1:
                    peer.leave(4001, f"bye {number}")
                elif choice == 2:
                    peer.vanish()
                else:
                    texts = ("ping", "tag even", "tag odd", "fail", f"close {number}", "show", "show")
                    for _ in range(1 + chance.below(3)):
                        peer.post(texts[chance.below(len(texts))])
                await sleep(1.0)
        await app.clock.advance(10)
        return [(peer.received, peer.closing) for peer in peers]


async def hibernation(seed: int) -> None:
    """The same clients twice."""
    expected = await seen(seed, evicts=False)
    told = await seen(seed, evicts=True)
    assert told == expected


# -- P9 ----------------------------------------------------------------------------------------------------------------------------


class Echo(Actor):
    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.set_state(self.id.name)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.broadcast(f"{self.id.name} {socket.state} {message!r}")


async def names(seed: int) -> None:
    """Rooms whose names run into each other, with sockets of the same ids."""
    chance = Chance(seed)
    async with TestApp.of(actors={"echo": Echo, "ech": Echo}) as app:
        rooms = [namespace.get(name) for name in names_of(chance)[:-1] for namespace in (app.env.ECHO, app.env.ECH)]
        peers = {room.id: [Peer(app, room, id) for id in ("ada", quote(room.id.name, safe=""))] for room in rooms}
        await app.clock.advance(1)
        for number, (first, _) in enumerate(peers.values()):
            first.post(str(number))
            if chance.below(2):
                await app.clock.advance(1)
        await app.clock.advance(1)
        for number, (actor, pair) in enumerate(peers.items()):
            for peer in pair:
                assert peer.closing is None, f"{actor} was closed by another: {peer.closing}"
                assert peer.received == [f"{actor.name} {actor.name} '{number}'"], f"{actor} heard {peer.received}"


# -- P10 ---------------------------------------------------------------------------------------------------------------------------


class Busy(Actor):
    """Slow, with a small mailbox."""

    mailbox_events_max = WAITING_MAX
    sockets_max = OTHERS + 2
    waiting_max: ClassVar[int] = 0

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await self.storage.put("last", message)
        await sleep(0.01)
        socket.send(message)

    async def ask(self) -> int:
        return len(self.sockets())


class Flooder(Peer):
    """Counts what the runtime has of its messages, neither answered nor with the client any more."""

    read_ahead = 3
    held = held_max = 0

    def post(self, message: str | bytes) -> None:
        before = self.unsent
        super().post(message)
        self.held += 1 + before - self.unsent
        self.held_max = max(self.held_max, self.held)

    def send(self, frame: Frame) -> None:
        super().send(frame)
        self.held -= 1

    def resume(self) -> None:
        before = self.unsent
        super().resume()
        self.held += before - self.unsent
        self.held_max = max(self.held_max, self.held)


async def flood(seed: int) -> None:
    """One client that sends without end, beside others, callers, and more clients than there is room for."""
    chance = Chance(seed)
    async with TestApp.of(actors={"busy": Busy}) as app:
        room = app.env.BUSY.get("b")
        flooder = Flooder(app, room, "flooder")
        others = [Peer(app, room, f"{number}") for number in range(OTHERS)]
        await app.clock.advance(1)
        for number in range(FLOOD):
            flooder.post(str(number))

        async def other(peer: Peer) -> None:
            for number in range(5):
                await sleep(0.2 * chance.fraction())
                began_s = app.clock.elapsed_s()
                peer.post(f"{number}")
                while len(peer.received) <= number:
                    await sleep(0.01)
                    assert app.clock.elapsed_s() - began_s < 1, "a client had to wait for the one who floods"

        async def caller() -> None:
            for _ in range(5):
                try:
                    assert await asyncio.wait_for(Started(room.ask()), 1) == OTHERS + 1
                except Overloaded as exc:
                    raise AssertionError("messages left no room for a call") from exc

        async with beset_by(*([holding(app, chance, 1)] if seed % 4 == 3 else [])):
            await together(caller(), *(other(peer) for peer in others if seed % 4 != 3))
        await app.clock.advance(60)
        assert flooder.received == [str(number) for number in range(FLOOD)] and flooder.closing is None
        most = WAITING_MAX // 2 + Flooder.read_ahead + 1
        assert flooder.held_max <= most, f"{flooder.held_max} messages of one client were in memory, with room for {most}"
        Peer(app, room, "last")
        with pytest.raises(Exception, match="open sockets"):
            Peer(app, room, "one too many")


# -- the tests ---------------------------------------------------------------------------------------------------------------------


def test_hibernation_changes_nothing_for_clients() -> None:
    """With and without evictions between any two turns, each client sees the same."""
    check(hibernation)


def test_two_rooms_never_meet() -> None:
    """Each room has its own sockets, ids and states, however alike the names look."""
    check(names)


def test_a_flood_is_bounded() -> None:
    """A client that sends without end waits itself; others, and calls, go on; past the last place clients are refused."""
    check(flood)


@pytest.mark.parametrize("name", [name for name, plant in SOCKET_SABOTAGES.items() if plant.promise in {"P7", "P9", "P10"}])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes its property fail."""
    plant = SOCKET_SABOTAGES[name]
    with sabotaged(plant):
        find({"P7": hibernation, "P9": names, "P10": flood}[plant.promise])
