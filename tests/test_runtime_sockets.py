"""Sockets of actors: the hooks and their order, what a turn does to sockets, hibernation, and taking over an id."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Collection
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from stead import Actor, AlarmInfo, HTTPException, Invalid, Request, Socket, durable, reads
from stead.clock import sleep
from stead.runtime.classes import ActorClass
from stead.runtime.inbound import SOCKET_EVENTS_MAX
from stead.testing import Peer, TestApp
from tests.garbage import garbage

pytestmark = pytest.mark.usefixtures("clock")


class Chat(Actor):
    """Says what it hears, and does what it is told."""

    heard: ClassVar[list[Any]] = []
    constructed: ClassVar[int] = 0
    texts: list[str] = durable(factory=list)

    async def on_start(self) -> None:
        Chat.constructed += 1
        self.seen: dict[Socket, int] = {}

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        return [tag for tag in request.query_params.get("tags", "").split(",") if tag]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        self.heard.append(("connect", socket.id, socket.uri, request.query_params.get("n")))
        if "refuse" in request.query_params:
            self.texts.append("refused")
            socket.send("never")
            self.broadcast("never")
            raise ValueError(request.query_params["refuse"])
        await sleep(float(request.query_params.get("wait", 0)))
        self.broadcast(f"{socket.id} joined", exclude=[socket])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.heard.append(("message", socket.id, message))
        self.seen[socket] = self.seen.get(socket, 0) + 1
        if isinstance(message, bytes):
            self.broadcast(message)
            return
        command, _, rest = message.partition(" ")
        await getattr(self, f"_{command}", self._say)(socket, rest)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.heard.append(("close", socket.id, code, reason, socket.state, [other.id for other in self.sockets()]))
        self.broadcast(f"{socket.id} left")

    async def _say(self, socket: Socket, rest: str) -> None:
        self.texts.append(rest)
        self.broadcast(f"{socket.id}: {rest}")

    async def _state(self, socket: Socket, rest: str) -> None:
        socket.set_state(rest)
        socket.attachment = [rest]
        socket.send({"state": socket.state, "attachment": socket.attachment})

    async def _show(self, socket: Socket, rest: str) -> None:
        socket.send([socket.state, socket.attachment, [*socket.tags], self.seen[socket]])

    async def _fail(self, socket: Socket, rest: str) -> None:
        self.texts.append("failed")
        socket.set_state("failed")
        socket.close(4000)
        self.broadcast("never")
        raise ValueError(rest)

    async def _close(self, socket: Socket, rest: str) -> None:
        socket.close(4000, rest)
        assert not socket.is_open and socket not in self.sockets()
        socket.send("never")

    async def _tags(self, socket: Socket, rest: str) -> None:
        socket.send([other.id for other in self.sockets(rest)])

    async def _part(self, socket: Socket, rest: str) -> None:
        socket.set_state("before")
        socket.send("before")
        try:
            async with self.storage.transaction():
                socket.set_state("inside")
                socket.send("inside")
                assert socket.state == "inside"
                raise ValueError
        except ValueError:
            socket.send([socket.state])
        async with self.storage.transaction():
            socket.send("after")

    async def say(self, text: str) -> int:
        self.texts.append(text)
        self.broadcast(text)
        return len(self.sockets())

    async def count(self) -> int:
        return len(self.sockets())

    @reads
    async def whisper(self, text: str) -> list[str]:
        self.broadcast(text)
        return self.texts

    @reads
    async def scribble(self) -> None:
        self.sockets()[0].set_state("written")

    async def send_and_call(self, text: str) -> None:
        self.broadcast(text)
        await self.env.CHAT.get("other").count()
        self.broadcast("never")
        raise ValueError

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.broadcast(f"alarm {alarm.name}")

    async def wake(self) -> None:
        await self.alarms.set("soon", 1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Chat.heard, Chat.constructed = [], 0


def chats() -> TestApp:
    return TestApp.of(actors={"chat": Chat})


async def settle(app: TestApp) -> None:
    await app.clock.advance(1)


# -- the hooks ---------------------------------------------------------------------------------------------------------------------


async def test_the_hooks_of_a_connection_run_in_order() -> None:
    """Connect, each message as its kind, close; the address is as sent, and the closing socket is listed no more."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        peer = Peer(app, room, "ada", "n=1", path="/parties/chat/r/a b")
        peer.post("hello")
        peer.post("")
        peer.post(b"\x00")
        peer.post("state of mind")
        peer.leave(4001, "bye")
        await settle(app)
        assert Chat.heard == [
            ("connect", "ada", "/parties/chat/r/a%20b?_pk=ada&n=1", "1"),
            ("message", "ada", "hello"),
            ("message", "ada", ""),
            ("message", "ada", b"\x00"),
            ("message", "ada", "state of mind"),
            ("close", "ada", 4001, "bye", "of mind", []),
        ]
        assert peer.received == []  # all of it was under way when the connection ended
        assert app.stats()["sockets"] == 0


async def test_what_is_sent_before_on_connect_has_ended_waits_for_it() -> None:
    async with chats() as app:
        slow, other = Peer(app, app.env.CHAT.get("r"), "slow", "wait=5"), Peer(app, app.env.CHAT.get("r"), "other")
        slow.post("say first")
        slow.post("say second")
        await settle(app)
        assert slow.received == [] and slow.is_paused
        await app.clock.advance(10)
        assert slow.received == ["other joined", "slow: first", "slow: second"] and not slow.is_paused
        assert other.received == ["slow: first", "slow: second"]


async def test_a_client_without_an_id_gets_one() -> None:
    """Different for each connection, and a tag like any other."""
    async with chats() as app:
        peers = [Peer(app, app.env.CHAT.get("r"), id, query) for id, query in ((None, ""), (None, "_pk=&n=1"))]
        await settle(app)
        first, second = (entry[1] for entry in Chat.heard)
        assert first and second and first != second
        peers[0].post(f"tags {first}")
        await settle(app)
        assert peers[0].received[-1] == f'["{first}"]'


@pytest.mark.parametrize("query", ["_pk=x&n=1", "n=1&_pk=x", "n=1?_pk=x", "?_pk=x"])
async def test_the_id_is_found_wherever_a_client_puts_it(query: str) -> None:
    """Also behind a second question mark."""
    async with chats() as app:
        Peer(app, app.env.CHAT.get("r"), query=query)
        await settle(app)
        assert Chat.heard[0][1] == "x"


@pytest.mark.parametrize("query", ["_pk=" + "x" * 257, "_pk=%FF"])
async def test_an_id_that_cannot_be_one_is_refused(query: str) -> None:
    async with chats() as app:
        with pytest.raises(HTTPException) as caught:
            Peer(app, app.env.CHAT.get("r"), query=query)
        assert caught.value.status_code == 400
        Peer(app, app.env.CHAT.get("r"), query="_pk=" + "%C3%A4" * 256)
        await settle(app)
        assert Chat.heard[0][1] == "ä" * 256


async def test_a_connection_that_on_connect_refuses_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed with the message, cut to what a frame holds; what it had sent is dropped, and on_close does not run."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        other = Peer(app, room, "other")
        refused = Peer(app, room, "ada", f"tags=red&refuse={quote('ä' * 100)}")
        refused.post("say hello")
        await settle(app)
        assert refused.closing == (1011, "ä" * 61) and refused.received == []
        refused.post("say more")
        refused.leave()
        await settle(app)
        assert await room.count() == 1 and await room.whisper("still") == []
        assert other.received == ["still"]
        assert [entry[0] for entry in Chat.heard] == ["connect", "connect"]
        assert "on_connect of chat/r failed for the socket 'ada'" in caplog.text
        other.post("tags red")
        await settle(app)
        assert other.received[-1] == "[]" and app.stats()["sockets"] == 1


async def test_a_message_that_fails_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """No frame, no closing, no state, no write; it is logged, and the socket stays open."""
    async with chats() as app:
        ada, bob = (Peer(app, app.env.CHAT.get("r"), id) for id in ("ada", "bob"))
        ada.post("state kept")
        ada.post("fail on purpose")
        ada.post("show")
        ada.post("say on")
        await settle(app)
        assert ada.received == ["bob joined", '{"state":"kept","attachment":["kept"]}', '["kept",["kept"],["ada"],1]', "ada: on"]
        assert bob.received == ["ada: on"] and ada.closing is None
        assert await app.env.CHAT.get("r").whisper("x") == ["on"]
        assert "on_message of chat/r failed for the socket 'ada'" in caplog.text and "on purpose" in caplog.text


async def test_what_a_transaction_rolls_back_is_not_sent() -> None:
    async with chats() as app:
        ada = Peer(app, app.env.CHAT.get("r"), "ada")
        ada.post("part")
        ada.post("show")
        await settle(app)
        assert ada.received == ["before", '["before"]', "after", '["before",null,["ada"],2]']


async def test_a_lost_connection_runs_on_close() -> None:
    async with chats() as app:
        Peer(app, app.env.CHAT.get("r"), "ada").vanish()
        await settle(app)
        assert Chat.heard[-1] == ("close", "ada", 1006, "", None, [])


async def test_closing_is_part_of_the_turn() -> None:
    """The client hears of it behind what was sent before; what it sends later is not heard, and on_close runs once."""
    async with chats() as app:
        ada, bob = (Peer(app, app.env.CHAT.get("r"), id) for id in ("ada", "bob"))
        await settle(app)
        for message in ("say bye", "close enough", "say never"):
            ada.post(message)
        await settle(app)
        ada.post("say never")
        ada.leave()
        await settle(app)
        assert ada.closing == (4000, "enough")
        assert ada.received == ["bob joined", "ada: bye"]
        assert bob.received == ["ada: bye", "ada left"]
        assert [entry for entry in Chat.heard if entry[0] == "close"] == [("close", "ada", 4000, "enough", None, ["bob"])]


class Deaf(Actor):
    """Takes sockets, and has nothing to do when they speak or leave."""

    started: ClassVar[int] = 0
    errors: ClassVar[list[str]] = []

    async def on_start(self) -> None:
        Deaf.started += 1

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.send("hello")


async def test_an_event_without_a_hook_wakes_nobody() -> None:
    async with TestApp.of(actors={"deaf": Deaf}) as app:
        Deaf.started = 0
        peer = Peer(app, app.env.DEAF.get("d"), "a")
        await settle(app)
        await app.evict(app.env.DEAF.get("d"))
        peer.post("anyone?")
        peer.leave()
        await settle(app)
        assert peer.received == ["hello"] and Deaf.started == 1 and app.stats()["sockets"] == 0


class Fragile(Actor):
    """Fails, and hears of it."""

    errors: ClassVar[list[str]] = []
    count: int = durable(0)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.count += 1
        if message == "slow":
            await sleep(60)
        if message == "abort":
            self.ctx.abort("enough")
        raise ValueError(message)

    async def on_error(self, socket: Socket, error: Exception) -> None:
        self.errors.append(f"{type(error).__name__}: {error}"[:40])
        self.count += 10
        if str(error) == "twice":
            raise RuntimeError("in on_error")
        socket.send(f"{self.count}")

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.errors.append(f"close {code}")


async def test_on_error_is_a_turn_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """After the failed one was rolled back; if it fails, that is logged and no more."""
    async with TestApp.of(actors={"fragile": Fragile}) as app:
        Fragile.errors = []
        peer = Peer(app, app.env.FRAGILE.get("f"), "a")
        for message in ("one", "twice", "abort", "slow"):
            peer.post(message)
            await app.clock.advance(40)
        peer.vanish(OSError("cable cut"))
        await settle(app)
        assert Fragile.errors == [
            "ValueError: one",
            "ValueError: twice",
            "Aborted: fragile/f was aborted: enough",
            "TurnTimeout: a turn of fragile/f was ove",
            "OSError: cable cut",
            "close 1006",
        ]
        assert peer.received == ["10", "20", "30"]
        assert caplog.text.count("on_message of fragile/f failed") == 4 and caplog.text.count("on_error of") == 1


class Stillborn(Actor):
    """Cannot start, or not in time."""

    turn_limit_s = 5.0
    errors: ClassVar[list[str]] = []

    async def on_start(self) -> None:
        await sleep(60 if self.id.name == "slow" else 0)
        raise ValueError("cannot start")

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.errors.append("closed")


@pytest.mark.parametrize(("name", "reason"), [("quick", "cannot start"), ("slow", "over its limit")])
async def test_an_actor_that_cannot_start_takes_no_socket(name: str, reason: str) -> None:
    async with TestApp.of(actors={"stillborn": Stillborn}) as app:
        peer = Peer(app, app.env.STILLBORN.get(name), "a")
        peer.post("hello")
        await app.clock.advance(10)
        assert peer.closing is not None and peer.closing[0] == 1011 and reason in peer.closing[1]
        assert app.stats()["sockets"] == 0 and Stillborn.errors == []


# -- commits -----------------------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_its_commit() -> None:
    """Neither by the turn that wrote, nor by those that ran after it, those that only read included."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        ada = Peer(app, room, "ada")
        await settle(app)
        with app.hold_commits() as held:
            ada.post("say hi")
            await held.wait()
            whispering = asyncio.gather(room.whisper("psst"))
            await settle(app)
            bob = Peer(app, room, "bob")
            await settle(app)
            assert ada.received == [] and bob.received == [] and not whispering.done()
        await settle(app)
        assert ada.received == ["ada: hi", "psst", "bob joined"]
        assert bob.received == []


async def test_a_lost_commit_takes_the_effects_with_it() -> None:
    """Frames, closings and states of every turn that depended on it; the connections stay."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        ada, bob = Peer(app, room, "ada"), Peer(app, room, "bob")
        ada.post("state durable")
        await settle(app)
        app.fail_next_commit()
        with app.hold_commits() as held:
            ada.post("say lost")
            ada.post("state lost")
            bob.post("close lost")
            bob.post("say unheard")
            await held.wait()
        await settle(app)
        assert bob.closing is None
        ada.post("show")
        bob.post("show")
        await settle(app)
        assert ada.received[2:] == ['["durable",["durable"],["ada"],1]']
        assert bob.received == ['[null,null,["bob"],1]']
        assert await room.count() == 2


async def test_a_connection_whose_commit_is_lost_is_closed() -> None:
    async with TestApp.of(actors={"guest-book": GuestBook}) as app:
        app.fail_next_commit()
        peer = Peer(app, app.env.GUEST_BOOK.get("g"), "a")
        await settle(app)
        assert peer.received == [] and peer.closing is not None and peer.closing[0] == 1011
        assert await app.env.GUEST_BOOK.get("g").names() == [[], []]


class GuestBook(Actor):
    written: list[str] = durable(factory=list)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        self.written.append(socket.id)
        self.broadcast(f"welcome {socket.id}")

    async def names(self) -> list[list[str]]:
        return [self.written, [socket.id for socket in self.sockets()]]


async def test_what_was_sent_before_a_call_left_with_it() -> None:
    """A call to another unit commits what the turn did so far; a later failure takes back what came after."""
    async with chats() as app:
        room = app.env.CHAT.get("r")
        ada = Peer(app, room, "ada")
        with pytest.raises(ValueError):
            await room.send_and_call("before")
        assert ada.received == ["before"]


async def test_alarms_reach_sockets() -> None:
    async with chats() as app:
        room = app.env.CHAT.get("r")
        ada = Peer(app, room, "ada")
        await room.wake()
        await settle(app)
        assert ada.received == ["alarm soon"]


# -- memory ------------------------------------------------------------------------------------------------------------------------


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


# -- the same id twice -------------------------------------------------------------------------------------------------------------


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


# -- who is there ------------------------------------------------------------------------------------------------------------------


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


# -- what may be said --------------------------------------------------------------------------------------------------------------


class Strict(Actor):
    """Tries what its test gives it, on its first socket."""

    attempt: ClassVar[Any] = None
    outcome: ClassVar[list[Any]] = []

    async def on_connect(self, socket: Socket, request: Request) -> None: ...

    async def attempt_it(self) -> str:
        Strict.kept = self.sockets()[0]
        try:
            self.attempt(self.sockets()[0])
        except Invalid as error:
            return str(error)
        return ""

    async def spawn_it(self) -> None:
        await self.storage.put("a", 1)
        self.ctx.spawn(self._spawned())

    async def _spawned(self) -> None:
        try:
            self.attempt(self.sockets()[0])
        except Invalid as error:
            self.outcome.append(str(error))

    async def leave_behind(self) -> None:
        async def later() -> None:
            await sleep(1)
            await self._spawned()

        Strict.task = asyncio.get_running_loop().create_task(later())

    kept: ClassVar[Socket]
    task: ClassVar[Any]


async def attempt(what: Any) -> tuple[Peer, str]:
    async with TestApp.of(actors={"strict": Strict}) as app:
        Strict.attempt = staticmethod(what)
        peer = Peer(app, app.env.STRICT.get("s"), "a")
        error = await app.env.STRICT.get("s").attempt_it()
        await settle(app)
        peer.vanish()  # so that the end of the node closes nothing
        return peer, error


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("", ""),
        ("ä\0", "ä\0"),
        (b"", b""),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[1:], b"yz"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([], "[]"),
        ("x" * (32 << 20), "x" * (32 << 20)),
    ],
    ids=range(8),
)
async def test_what_can_be_sent(message: Any, sent: Any) -> None:
    peer, error = await attempt(lambda socket: socket.send(message))
    assert error == "" and peer.received == [sent] and type(peer.received[0]) is type(sent)


@pytest.mark.parametrize(
    "message", [None, 5, ("a",), "\ud800", {"a": object()}, {1j: 1}, "ä" * ((16 << 20) + 1), b"x" * ((32 << 20) + 1)], ids=range(8)
)
async def test_what_cannot_be_sent_is_invalid(message: Any) -> None:
    """Said to who sends, whether anybody is there or not."""
    peer, error = await attempt(lambda socket: socket.send(message))
    assert "message" in error and peer.received == []


async def test_a_turn_sends_so_much_and_no_more() -> None:
    peer, error = await attempt(lambda socket: [socket.send(b"x" * (20 << 20)) for _ in range(4)])
    assert "another turn" in error


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
async def test_codes_that_close(code: int) -> None:
    peer, error = await attempt(lambda socket: socket.close(code, "ä" * 61))
    assert error == "" and peer.closing == (code, "ä" * 61)


@pytest.mark.parametrize(
    ("code", "reason"), [(0, ""), (999, ""), (1004, ""), (1005, ""), (1006, ""), (1015, ""), (2999, ""), (5000, ""), (True, ""),
                         ("1000", ""), (1000, "x" * 124), (1000, "\ud800"), (1000, None)], ids=range(13)
)  # fmt: skip
async def test_closings_that_cannot_be_are_invalid(code: Any, reason: Any) -> None:
    peer, error = await attempt(lambda socket: socket.close(code, reason))
    assert error and peer.closing is None


async def test_state_is_small_and_copied() -> None:
    """Read in the turn that set it, made by a function of the present one, and never an object that two hold."""

    def use(socket: Socket) -> None:
        assert socket.state is None and socket.attachment is None
        value = {"a": [1]}
        assert socket.set_state(value) is value
        value["a"].append(2)
        assert socket.state == {"a": [1]} and socket.state is not socket.state
        assert socket.set_state(lambda state: len(state)) == 1
        assert socket.state == 1 and socket.attachment is None
        socket.set_state("x" * 16_000)
        socket.attachment = b"x" * 16_000

    assert (await attempt(use))[1] == ""
    for too_large in (lambda socket: socket.set_state("x" * 16_384), lambda socket: setattr(socket, "attachment", object())):
        assert (await attempt(too_large))[1]


async def test_outside_turns() -> None:
    """Spawned work may send, behind what was submitted; it may not set state."""
    async with TestApp.of(actors={"strict": Strict}) as app:
        room = app.env.STRICT.get("s")
        peer = Peer(app, room, "a")
        await settle(app)
        Strict.outcome = []
        Strict.attempt = staticmethod(lambda socket: socket.send("spawned"))
        with app.hold_commits() as held:
            spawning = asyncio.gather(room.spawn_it())
            await held.wait()
            await settle(app)
            assert peer.received == []
        await spawning
        assert peer.received == ["spawned"] and Strict.outcome == []
        Strict.attempt = staticmethod(lambda socket: socket.set_state(1))
        await room.spawn_it()
        await settle(app)
        assert len(Strict.outcome) == 1 and "ctx.turn()" in Strict.outcome[0]
        Strict.attempt = staticmethod(lambda socket: socket.close(4000))
        await room.spawn_it()
        await settle(app)
        assert peer.closing == (4000, "") and app.stats()["sockets"] == 0


async def test_after_a_turn_and_in_another_actors_nothing_is_done() -> None:
    """Code that outlives its turn, and code of another actor that got hold of a socket, is told so."""
    async with TestApp.of(actors={"strict": Strict}) as app:
        first, second = app.env.STRICT.get("1"), app.env.STRICT.get("2")
        peers = [Peer(app, room, "a") for room in (first, second)]
        Strict.outcome = []
        Strict.attempt = staticmethod(lambda socket: socket.send("late"))
        await first.leave_behind()
        await app.clock.advance(5)
        assert len(Strict.outcome) == 1 and "turn has ended" in Strict.outcome[0]
        assert await first.attempt_it() == ""
        foreign = Strict.kept
        for use in (lambda _: foreign.send("x"), lambda _: foreign.close(), lambda _: foreign.set_state(1)):
            Strict.attempt = staticmethod(use)
            assert "strict/2" in await second.attempt_it()
        assert [peer.received for peer in peers] == [["late"], []]


async def test_a_method_that_only_reads_sets_no_state() -> None:
    async with chats() as app:
        room = app.env.CHAT.get("r")
        Peer(app, room, "a")
        with pytest.raises(Invalid, match="@reads"):
            await room.scribble()


# -- how much ----------------------------------------------------------------------------------------------------------------------


class Small(Actor):
    sockets_max = 2
    mailbox_events_max = 8
    hold: ClassVar[asyncio.Event]

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await self.hold.wait()
        self.broadcast(message)

    async def ask(self) -> int:
        return len(self.sockets())


async def test_a_room_has_so_many_sockets() -> None:
    """The next one is refused; one that takes over an id is not, so that a lost client can come back."""
    async with TestApp.of(actors={"small": Small}) as app:
        room = app.env.SMALL.get("s")
        peers = [Peer(app, room, id) for id in "ab"]
        with pytest.raises(Exception, match="2 open sockets") as caught:
            Peer(app, room, "c")
        assert getattr(caught.value, "status", 0) == 503
        peers.append(Peer(app, room, "a"))
        await settle(app)
        assert await room.ask() == 2
        peers[1].leave()
        await settle(app)
        Peer(app, room, "c")


async def test_a_flood_waits_at_the_client() -> None:
    """Half of the mailbox is for messages, so that calls get in; past that clients are paused, and take turns."""
    async with TestApp.of(actors={"small": Small}) as app:
        Small.hold = asyncio.Event()
        room = app.env.SMALL.get("s")
        flood, other = Peer(app, room, "flood"), Peer(app, room, "other")
        await settle(app)
        for number in range(500):
            flood.post(f"flood {number}")
        other.post("other")
        asked = asyncio.gather(*(room.ask() for _ in range(3)))
        await settle(app)
        assert flood.is_paused and flood.unsent == 500 - 5
        Small.hold.set()
        await settle(app)
        assert await asked == [2, 2, 2] and not flood.is_paused
        texts = [str(text) for text in other.received]
        assert [text for text in texts if text != "other"] == [f"flood {number}" for number in range(500)]
        assert texts.index("other") < 10


class Metered(Actor):
    socket_messages_per_s = 5

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send(message)


async def test_who_sends_too_fast_is_closed() -> None:
    async with TestApp.of(actors={"metered": Metered}) as app:
        fast, slow = (Peer(app, app.env.METERED.get("m"), id) for id in ("fast", "slow"))
        for number in range(20):
            slow.post(str(number))
            await app.clock.advance(0.25)
        assert slow.closing is None and len(slow.received) == 20
        for number in range(7):
            fast.post(str(number))
        await settle(app)
        assert fast.closing == (1008, "more than 5 messages a second")


# -- the end of the node -----------------------------------------------------------------------------------------------------------


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


# -- classes -----------------------------------------------------------------------------------------------------------------------


def test_classes_that_cannot_work_are_refused() -> None:
    """When the application is loaded, each with the name of what is wrong."""

    class NotAsync(Actor):
        def on_message(self, socket: Socket, message: str | bytes) -> None: ...  # type: ignore[override]

    class OwnConnect(Actor):
        async def connect(self, request: Request, subprotocol: str | None = None) -> Any: ...

    class NotOfTheClass(Actor):
        async def before_connect(self, request: Request, env: Any) -> None: ...  # type: ignore[override]

    class NotAsyncBefore(Actor):
        @classmethod
        def before_request(cls, request: Request, env: Any) -> None: ...  # type: ignore[override]

    class NoSockets(Actor):
        sockets_max = 0

    class NoRate(Actor):
        socket_messages_per_s = -1.0

    for cls in (NotAsync, OwnConnect, NotOfTheClass, NotAsyncBefore, NoSockets, NoRate):
        with pytest.raises(Invalid, match=cls.__name__):
            ActorClass("unit", cls)
