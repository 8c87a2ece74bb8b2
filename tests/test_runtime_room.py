"""The connections of one actor: over hibernation, under one id, by their tags, and at the end of the node."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Collection
from typing import Any, ClassVar

import pytest

from stead import Actor, Request, Socket
from stead.clock import sleep
from stead.runtime.inbound import SOCKET_EVENTS_MAX
from stead.testing import Peer, TestApp
from tests.chat import Chat, Deaf, chats, settle
from tests.garbage import garbage

pytestmark = pytest.mark.usefixtures("clock")


# -- memory ----------------------------------------------------------------------------------------------------------------------


async def test_sockets_outlive_the_instance() -> None:
    """An idle actor leaves memory; its sockets, tags and states stay, and the next message finds the same sockets."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        ada, bob = Peer(app, room, "ada", "tags=red,blue"), Peer(app, room, "bob", "tags=red")
        ada.post("state kept")
        await app.clock.advance(60)
        assert app.stats()["residents"] == 0 and app.stats()["sockets"] == 2
        ada.post("show")
        bob.post("tags red")
        await settle(app)
        assert ada.received[2:] == ['["kept",["kept"],["red","blue","ada"],1]']
        assert bob.received == ['["ada","bob"]']
        assert Chat.constructed == 2 and [entry[0] for entry in Chat.heard].count("connect") == 2


async def test_a_connection_is_one_object_in_every_hook() -> None:
    async with chats() as app:
        ada = Peer(app, app.env.CHAT.get("r"), "ada")
        for _ in range(3):
            ada.post("show")
        await settle(app)
        assert ada.received[-1] == '[null,null,["ada"],3]'


class Quiet(Actor):
    """Leaves pings to the runtime."""

    hibernate_after_s = 10.0
    woken: ClassVar[int] = 0

    async def on_start(self) -> None:
        Quiet.woken += 1
        self.ctx.auto_reply("ping", "pong")

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        if message == "stop":
            self.ctx.auto_reply(None)
        elif message == "fail":
            self.ctx.auto_reply("ping", "never")
            raise ValueError
        elif message == "long":
            self.ctx.auto_reply("x" * 2049)
        else:
            socket.send(f"heard {message!r}")


async def test_an_automatic_reply_wakes_nobody() -> None:
    """Not even one that is about to leave memory; what is not quite the request is a message like any other."""
    async with TestApp.of(actors={"quiet": Quiet}) as app:
        Quiet.woken = 0
        peer = Peer(app, app.env.QUIET.get("q"), "a")
        peer.post("ping")  # before on_start has run: it waits, and finds the reply set
        for _ in range(12):
            await app.clock.advance(1)
            peer.post("ping")
        await settle(app)
        assert app.stats()["residents"] == 0
        peer.post("ping")
        await settle(app)
        assert peer.received == ["pong"] * 14 and app.stats()["residents"] == 0 and Quiet.woken == 1
        for message in ("fail", "long", "ping", b"ping", "stop", "ping"):
            peer.post(message)
            await settle(app)
        assert peer.received[14:] == ["pong", "heard b'ping'", "heard 'ping'"]


async def test_sockets_leave_nothing_to_the_garbage_collector() -> None:
    """Neither their turns nor their ends: a busy room is not stopped to be searched for cycles."""
    async with chats() as app:
        ada = Peer(app, app.env.CHAT.get("r"), "ada")
        await settle(app)
        with garbage() as left:
            for _ in range(20):
                bob = Peer(app, app.env.CHAT.get("r"), "bob", "tags=red")
                bob.post("say hi")
                bob.post("state new")
                ada.post("say hi")
                await settle(app)
                bob.leave()
                await settle(app)
            del bob
    assert left == []


async def test_an_idle_socket_is_small() -> None:
    """It costs what it keeps: its id, its address, its place in the tables."""
    async with TestApp.of(actors={"deaf": Deaf}) as app:
        tracemalloc.start()
        try:
            peers = [Peer(app, app.env.DEAF.get("d"), str(number)) for number in range(100)]
            await settle(app)
            await app.evict(app.env.DEAF.get("d"))
            before = tracemalloc.get_traced_memory()[0]
            peers += [Peer(app, app.env.DEAF.get("d"), str(number)) for number in range(100, 1100)]
            await settle(app)
            await app.evict(app.env.DEAF.get("d"))
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / 1000
        finally:
            tracemalloc.stop()
        assert each < 2000, f"{each:.0f} bytes for an idle socket and its peer"


# -- the same id twice -----------------------------------------------------------------------------------------------------------


async def test_a_newer_connection_takes_an_id_over() -> None:
    """The older one is closed, its on_close runs before the newer's on_connect, and its end does not touch the newer one."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        old = Peer(app, room, "ada", "n=old&tags=x")
        old.post("state old")
        await settle(app)
        new = Peer(app, room, "ada", "n=new&tags=x")
        new.post("show")
        assert old.closing == (1008, "taken over by a newer connection")
        old.vanish()
        await settle(app)
        assert [entry[::3] for entry in Chat.heard if entry[0] in {"connect", "close"}] == [
            ("connect", "old"),
            ("close", "taken over by a newer connection"),
            ("connect", "new"),
        ]
        assert new.received == ['[null,null,["x","ada"],1]'] and new.closing is None
        assert await room.count() == 1
        new.post("tags ada")
        new.post("tags x")
        await settle(app)
        assert new.received[1:] == ['["ada"]', '["ada"]']


async def test_a_connection_waits_until_the_one_it_follows_has_been_heard() -> None:
    """However much that had sent, and however many take over meanwhile: each is heard whole before the next begins."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        for number in range(3):
            peer = Peer(app, room, "ada", f"n={number}&wait=1")
            peer.read_ahead = 2 * SOCKET_EVENTS_MAX
            for _ in range(2 * SOCKET_EVENTS_MAX):
                peer.post(f"say {number}")
        await app.clock.advance(60)
        kinds = [entry[0] for entry in Chat.heard]
        assert kinds.count("message") == 3 * 2 * SOCKET_EVENTS_MAX
        kinds_once = [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind]
        assert kinds_once == ["connect", "message", "close", "connect", "message", "close", "connect", "message"]


# -- who is there ----------------------------------------------------------------------------------------------------------------


class Tagged(Actor):
    plans: ClassVar[Any] = []

    async def connection_tags(  # type: ignore[override]
        self, socket: Socket, request: Request
    ) -> Collection[str]:
        await sleep(0.1)
        return self.plans  # type: ignore[no-any-return]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.send([*socket.tags])

    async def with_tag(self, tag: str) -> list[str]:
        return [socket.id for socket in self.sockets(tag)]

    async def tell(self, tag: str | None, exclude: list[str]) -> None:
        self.broadcast("told", exclude=exclude, tag=tag)
        if not exclude and tag:
            self.broadcast("self", exclude=self.sockets(tag))


async def test_tags_group_sockets_in_the_order_they_connected() -> None:
    """They may come from async code; the id is a tag, also where another socket carries it as one."""
    async with TestApp.of(actors={"tagged": Tagged}) as app:
        room = app.env.TAGGED.get("t")
        Tagged.plans = ["red", "b", "red"]
        peers = [Peer(app, room, id) for id in "abc"]
        await settle(app)
        assert peers[0].received == ['["red","b","a"]'] and peers[1].received == ['["red","b"]']
        assert await room.with_tag("red") == await room.with_tag("b") == ["a", "b", "c"]
        assert await room.with_tag("c") == ["c"] and await room.with_tag("green") == []
        await room.tell("red", ["b"])
        await room.tell("c", [])
        assert [peer.received[1:] for peer in peers] == [["told", "self"], ["self"], ["told", "told"]]
        peers[1].leave()
        await settle(app)
        assert await room.with_tag("b") == ["a", "c"]


@pytest.mark.parametrize(
    "tags", ["text", None, [""], ["x" * 257], [5], [str(number) for number in range(11)]], ids=lambda tags: str(tags)[:10]
)
async def test_tags_that_cannot_be_refuse_the_connection(tags: Any) -> None:
    async with TestApp.of(actors={"tagged": Tagged}) as app:
        Tagged.plans = tags
        peer = Peer(app, app.env.TAGGED.get("t"), "a")
        await settle(app)
        assert peer.closing is not None and peer.closing[0] == 1011 and "connection_tags()" in peer.closing[1]


async def test_what_goes_to_many_is_one_frame() -> None:
    """Its encoding is made once, however many get it."""
    frames: list[Any] = []

    class Counting(Peer):
        def send(self, frame: Any) -> None:
            frames.append(frame)

    async with chats() as app:
        for number in range(5):
            Counting(app, app.env.CHAT.get("r"), str(number))
        await settle(app)
        frames.clear()
        await app.env.CHAT.get("r").say("x")
        assert len(frames) == 5 and len({id(frame) for frame in frames}) == 1


# -- the end of the node ---------------------------------------------------------------------------------------------------------


async def test_a_node_that_stops_closes_its_sockets() -> None:
    """Once what they had sent is done; on_close runs, of actors that had left memory too."""
    async with chats() as app:
        asleep = Peer(app, app.env.CHAT.get("asleep"), "sleeper")
        await settle(app)
        await app.evict(app.env.CHAT.get("asleep"))
        awake = Peer(app, app.env.CHAT.get("awake"), "ada", "wait=2")
        awake.post("say bye")
    assert awake.received == ["ada: bye"]
    assert awake.closing == asleep.closing == (1012, "the server is restarting")
    assert {entry[1] for entry in Chat.heard if entry[0] == "close"} == {"sleeper", "ada"}


async def test_a_crash_ends_everything(caplog: pytest.LogCaptureFixture) -> None:
    """What a connection of the dead process still brings is nobody's, and nothing is logged of it."""
    async with chats() as app:
        ada = Peer(app, app.env.CHAT.get("r"), "ada", "wait=5")
        ada.post("say hi")
        await settle(app)
        await app.crash()
        ada.post("say hi")
        ada.vanish()
        await settle(app)
        assert ada.received == [] and app.stats()["sockets"] == 0
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
