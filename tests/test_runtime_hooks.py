"""The hooks of an actor with sockets: which run, in which order, and what becomes of one that fails."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from stead import Actor, HTTPException, Invalid, Request, Socket, durable
from stead.clock import sleep
from stead.runtime.classes import ActorClass
from stead.testing import Peer, TestApp
from tests.chat import Chat, Deaf, chats, settle

pytestmark = pytest.mark.usefixtures("clock")


# -- the hooks -------------------------------------------------------------------------------------------------------------------


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


# -- classes ---------------------------------------------------------------------------------------------------------------------


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
