"""What a turn does to sockets: with its commit or not at all, and what may be said."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from stead import Actor, Invalid, Request, Socket, durable
from stead.clock import sleep
from stead.testing import Peer, TestApp
from tests.chat import chats, settle

pytestmark = pytest.mark.usefixtures("clock")


# -- commits ---------------------------------------------------------------------------------------------------------------------


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


# -- what may be said ------------------------------------------------------------------------------------------------------------


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
