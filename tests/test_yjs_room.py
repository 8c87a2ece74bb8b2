"""A Yjs document as an actor, with clients that follow y-protocols over the sockets of a `TestApp`."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pycrdt
import pytest

from stead import Invalid, Request, Socket, reads
from stead.clock import sleep
from stead.errors import Aborted
from stead.ids import Chance
from stead.testing import Disconnected, HandshakeRefused, TestApp, TestSocket, check, find
from stead.yjs import YRoom, log, protocol, room
from stead.yjs.document import Document, Gap, Torn
from stead.yjs.protocol import Client, Kind, Malformed, read_clients, read_message

pytestmark = pytest.mark.usefixtures("clock")
Doc = pycrdt.Doc[Any]


def text_of(doc: Doc) -> str:
    return str(doc.get("text", type=pycrdt.Text))


class Page(YRoom):
    """What the tests ask of a room."""

    starts = 0

    async def on_start(self) -> None:
        await super().on_start()
        Page.starts += 1

    async def text(self) -> str:
        return text_of(self.doc)

    async def state(self) -> bytes:
        return self.doc.get_state()

    async def keys(self) -> list[str]:
        return list(await self.storage.list("yjs:"))

    async def write(self, words: str, fail: bool = False) -> None:
        async with self.edit() as doc:
            doc.get("text", type=pycrdt.Text).insert(0, words)
        if fail:
            raise ValueError("after all not")

    async def write_and_take_back(self, words: str) -> None:
        try:
            async with self.storage.transaction():
                await self.write(words, fail=True)
        except ValueError:
            pass

    async def write_outside(self) -> None:
        self.doc.get("text", type=pycrdt.Text).insert(0, "stray")

    async def panic(self) -> None:
        async with self.edit() as doc:
            words = doc.get("text", type=pycrdt.Text)
            words.insert(0, "é")
            del words[1]  # in the middle of a character: pycrdt counts in bytes

    @reads
    async def write_while_reading(self) -> None:
        await self.write("no")

    async def versions(self) -> list[str]:
        updates = await self.history()
        return [text_of(Document(updates[: number + 1], lambda: None).doc) for number in range(len(updates))]


class Reading(Page):
    """Who connects with `?ro` may only read."""

    async def is_read_only(self, socket: Socket, request: Request) -> bool:
        return "ro" in request.query_params


class Saving(Page):
    """Comes from elsewhere and goes elsewhere."""

    saved: list[tuple[float, str]] = []
    fails = 0

    async def on_load(self) -> bytes:
        doc: Doc = pycrdt.Doc()
        doc.get("text", type=pycrdt.Text).insert(0, "once upon a time")
        return doc.get_update()

    async def on_save(self, doc: Doc) -> None:
        Saving.saved.append((self.env.now().timestamp(), text_of(doc)))
        if Saving.fails:
            Saving.fails -= 1
            raise OSError("elsewhere is down")


class Talking(Page):
    """Says everything back in capitals, and tells the others."""

    async def on_custom_message(self, socket: Socket, message: str) -> None:
        self.send_custom_message(socket, message.upper())
        self.broadcast_custom_message(message, exclude=[socket])


class Remembering(Page):
    """Keeps the newest versions."""

    history_updates_max = 5


class Small(Page):
    """Has little room."""

    document_bytes_max = 2_000


class Failing(Page):
    """Fails after it took an update, as often as it is told."""

    failures = 0

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await super().on_message(socket, message)
        if isinstance(message, bytes) and message[:2] == b"\0\2" and Failing.failures:
            Failing.failures -= 1
            raise OSError("after all not")


ROOMS = {
    "page": Page,
    "reading": Reading,
    "saving": Saving,
    "talking": Talking,
    "remembering": Remembering,
    "small": Small,
    "failing": Failing,
}


def pages(seed: int | None = None) -> TestApp:
    return TestApp.of(actors=ROOMS, seed=seed)


class Editor:
    """A client that does what `y-websocket` does: it asks and answers, passes its edits on, and says who it is."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.doc: Doc = pycrdt.Doc()
        self.text = self.doc.get("text", type=pycrdt.Text)
        self.told: Doc = pycrdt.Doc()  # what the room has said: all of it must be durable
        self.clients: dict[int, Client] = {}
        self.texts: list[str] = []
        self.frames = 0
        self.denials = 0
        self.questions = 0
        self.socket: TestSocket | None = None
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._hearing = False
        self._clock = 0
        self.doc.observe(self._changed)

    def _changed(self, event: pycrdt.TransactionEvent) -> None:
        if not self._hearing:
            self.say(protocol.update(event.update))

    def say(self, message: str | bytes) -> None:
        """Send a message if there is a connection; an edit that is not sent is in the next answer to a step 1."""
        if self.socket is not None:
            self._outbox.put_nowait(message)

    def renew(self, state: bytes | None = None) -> None:
        """Say who it is."""
        self._clock += 1
        state = b'{"name":"%s"}' % self.name.encode() if state is None else state
        self.say(protocol.awareness([Client(self.doc.client_id, self._clock, state)]))

    @asynccontextmanager
    async def at(self, app: TestApp, path: str = "/parties/page/a") -> AsyncIterator[Editor]:
        """Be connected."""
        async with app.connect(path) as socket, asyncio.TaskGroup() as tasks:
            self._begin(socket)
            work = [tasks.create_task(self._send(socket)), tasks.create_task(self._receive(socket))]
            try:
                yield self
            finally:
                self.socket = None
                for task in work:
                    task.cancel()

    def _begin(self, socket: TestSocket) -> None:
        self.socket = socket
        self._outbox = asyncio.Queue()
        self.say(protocol.step1(self.doc.get_state()))
        self.renew()

    async def live(self, app: TestApp) -> None:
        """Connect again and again."""
        while True:
            try:
                async with self.at(app):
                    assert self.socket is not None
                    await self.socket.wait_closed()
            except (Disconnected, HandshakeRefused, OSError):
                pass
            await sleep(0.2)

    async def _send(self, socket: TestSocket) -> None:
        while True:
            try:
                await socket.send(await self._outbox.get())
            except Disconnected:
                return

    async def _receive(self, socket: TestSocket) -> None:
        async for message in socket:
            self.frames += 1
            if isinstance(message, str):
                self.texts.append(message)
            else:
                self._hear(message)

    def _hear(self, data: bytes) -> None:
        message = read_message(data)
        match message.kind:
            case Kind.STEP1:
                self.say(protocol.step2(self.doc.get_update(message.payload)))
            case Kind.STEP2 | Kind.UPDATE:
                self.told.apply_update(message.payload)
                self._hearing = True
                self.doc.apply_update(message.payload)
                self._hearing = False
            case Kind.AWARENESS:
                for client in read_clients(message.payload):
                    self.clients[client.client] = client
            case Kind.QUERY:
                self.questions += 1
                self.renew()
            case Kind.UNKNOWN:
                self.denials += 1

    def sees(self) -> set[int]:
        return {client.client for client in self.clients.values() if not client.is_gone}


async def until(condition: Any, seconds: float = 10.0) -> None:
    for _ in range(round(seconds * 100)):
        if condition():
            return
        await sleep(0.01)
    raise AssertionError("it did not come to that")


# -- the conversation ------------------------------------------------------------------------------------------------------------


async def test_the_first_words_of_a_conversation() -> None:
    """On connect a SyncStep1; a SyncStep1 is answered with SyncStep2, an update with itself, also to its sender."""
    async with pages() as app, app.connect("/parties/page/a") as one, app.connect("/parties/page/a") as two:
        assert await one.receive() == protocol.step1(b"\x00")
        assert await two.receive() == protocol.step1(b"\x00")
        doc: Doc = pycrdt.Doc()
        doc.get("text", type=pycrdt.Text).insert(0, "hello")
        update = doc.get_update()
        await one.send(protocol.update(update))
        assert await one.receive() == await two.receive() == protocol.update(update)
        await two.send(protocol.step1(b"\x00"))
        assert await two.receive() == protocol.step2(update)
        await two.send(protocol.update(update))  # known: nobody is told, but it may be that there was more
        assert await app.env.PAGE.get("a").text() == "hello"


async def test_two_editors_see_each_other() -> None:
    """Both texts and both names arrive, an edit from before the connection too; who leaves is gone."""
    ann, bob = Editor("ann"), Editor("bob")
    ann.text.insert(0, "offline ")
    async with pages() as app, ann.at(app):
        async with bob.at(app):
            await until(lambda: ann.sees() == bob.sees() == {ann.doc.client_id, bob.doc.client_id})
            bob.text.insert(0, "online ")
            await until(lambda: sorted(text_of(ann.doc).split()) == ["offline", "online"])
            assert text_of(ann.doc) == text_of(bob.doc) == await app.env.PAGE.get("a").text()
        await until(lambda: ann.sees() == {ann.doc.client_id})


async def test_who_connects_later_is_told_everything() -> None:
    """The document and the presence of who is here already."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, ann.at(app):
        ann.text.insert(0, "hello")
        await until(lambda: text_of(ann.told) == "hello")
        async with bob.at(app):
            await until(lambda: text_of(bob.doc) == "hello" and ann.doc.client_id in bob.sees())
            bob.clients.clear()
            bob.say(protocol.query())
            await until(lambda: bob.sees() == {ann.doc.client_id, bob.doc.client_id})


async def test_it_survives_hibernation_and_crashes() -> None:
    """What was echoed is there after an eviction and after a crash; presence survives the eviction without a word from anyone."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app:
        async with ann.at(app):
            ann.text.insert(0, "hello")
            await until(lambda: text_of(ann.told) == "hello" and ann.doc.client_id in ann.sees())
            await app.evict(app.env.PAGE.get("a"))
            async with bob.at(app):
                await until(lambda: bob.sees() == {ann.doc.client_id, bob.doc.client_id})
        await app.crash()
        assert await app.env.PAGE.get("a").text() == "hello"


async def test_a_renewal_is_echoed_right_after_a_wake() -> None:
    """`y-websocket` hangs up after 30 s without a message: its own renewals come back, also through hibernations."""
    ann = Editor("ann")
    async with pages() as app, ann.at(app):
        room = app.env.PAGE.get("a")
        await until(lambda: ann.clients)
        for _ in range(4):
            await app.evict(room)
            before = ann.clients[ann.doc.client_id].clock
            ann.renew()
            await until(lambda before=before: ann.clients[ann.doc.client_id].clock == before + 1)


async def test_an_idle_room_leaves_memory_and_a_busy_one_does_not() -> None:
    """Clients that renew their presence every 15 s keep their room; with others it hibernates, and wakes with all it knew."""
    ann = Editor("ann")
    async with pages() as app, ann.at(app):
        await until(lambda: ann.clients)
        Page.starts = 0
        for _ in range(5):
            await sleep(15)
            ann.renew()
        assert Page.starts == 0
        await sleep(60)
        ann.text.insert(0, "hello")
        await until(lambda: text_of(ann.told) == "hello")
        assert Page.starts == 1


async def test_a_state_too_large_to_keep_is_asked_for() -> None:
    """An attachment is small: after a wake a client that said more is asked again, the others are not."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, ann.at(app), bob.at(app):
        ann.renew(b'"%s"' % (b"x" * 20_000))
        await until(lambda: ann.doc.client_id in bob.sees() and len(bob.clients[ann.doc.client_id].state) > 20_000)
        await app.evict(app.env.PAGE.get("a"))
        bob.renew()
        await until(lambda: ann.questions == 1)
        await until(lambda: bob.clients[ann.doc.client_id].clock == 3)
        assert bob.questions == 0


async def test_who_comes_back_before_it_was_missed_stays() -> None:
    """The old connection is half open, and the room forgets all in between: its end does not remove the client."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, bob.at(app):
        old = await app.connect("/parties/page/a")
        announcement = protocol.awareness([Client(ann.doc.client_id, 1, b"{}")])
        await old.send(announcement)
        await until(lambda: ann.doc.client_id in bob.sees())
        async with app.connect("/parties/page/a") as new:
            await new.send(announcement)
            await new.send(protocol.step1(b"\x00"))
            while await new.receive() != protocol.step2(b"\x00\x00"):
                pass
            await app.evict(app.env.PAGE.get("a"))
            old.drop()
            bob.renew()
            await sleep(1)
            assert bob.clients[ann.doc.client_id].clock == 1
        await until(lambda: ann.doc.client_id not in bob.sees())


async def test_a_socket_that_closes_while_nobody_is_in_memory_takes_its_presence_along() -> None:
    """The room wakes for the close, and still knows whom that connection spoke for."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, bob.at(app):
        async with ann.at(app):
            await until(lambda: len(bob.sees()) == 2)
            await app.evict(app.env.PAGE.get("a"))
        await until(lambda: bob.sees() == {bob.doc.client_id})


# -- what may fail ---------------------------------------------------------------------------------------------------------------


async def test_a_failed_turn_leaves_no_trace_and_is_made_good() -> None:
    """Nobody hears of an update whose turn failed, the document has not got it, and the next instance gets it from its author."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, ann.at(app, "/parties/failing/a"), bob.at(app, "/parties/failing/a"):
        await until(lambda: len(bob.sees()) == 2)
        Failing.failures = 1
        ann.text.insert(0, "hello")
        await until(lambda: Failing.failures == 0)
        assert text_of(bob.doc) == ""
        bob.renew()  # whatever wakes the room
        await until(lambda: text_of(bob.doc) == "hello")
        assert await app.env.FAILING.get("a").text() == "hello"


async def test_a_lost_commit_is_not_echoed_and_is_made_good() -> None:
    """An update whose commit failed was heard by nobody; its author gives it again."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, ann.at(app), bob.at(app):
        await until(lambda: len(bob.sees()) == 2)
        app.fail_next_commit()
        ann.text.insert(0, "hello")
        await sleep(0.5)
        assert text_of(bob.doc) == text_of(ann.told) == ""
        bob.renew()
        await until(lambda: text_of(bob.doc) == text_of(ann.told) == "hello")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x00\x02\xff\xff\xff\xff\x07",
        b"\x00\x00\x05abcde",
        b"\x00\x00\x01\x80",
        protocol.step1(protocol.varuint(2**28) + b"\x01" * 50),
        protocol.update(protocol.varuint(2**28) + b"\x01" * 50),
        protocol.update(b""),
        protocol.update(b"\x01\x01\xff"),
        protocol.update(b"\xff" * 30),
        protocol.update(b"\x01\x01\x01\x00\x08\x01\x01m\x01" + b"\x75\x01" * 100_000 + b"\x7e\x00"),
        protocol.step2(b"\x00"),
        b"\x01\x02\x05\x00",
        protocol.awareness([Client(1, 1, b"{]")]),
        "y-pk-batch#{}",
        'y-pk-batch#{"id":"a","type":"end","size":1,"count":1}',
    ],
)
async def test_a_malformed_message_closes_its_connection_and_the_room_goes_on(data: str | bytes) -> None:
    """1008 with the reason; nothing of it stays, and the others do not notice."""
    bob = Editor("bob")
    async with pages() as app, bob.at(app), app.connect("/parties/page/a") as hostile:
        await hostile.send(data)
        await hostile.wait_closed()
        assert hostile.close_code == 1008
        assert hostile.close_reason
        bob.text.insert(0, "fine")
        await until(lambda: text_of(bob.told) == "fine")


async def test_unknown_messages_are_ignored() -> None:
    """Other types, other text: for later versions, or somebody else's."""
    ann = Editor()
    async with pages() as app, ann.at(app):
        for message in (b"\x07abc", b"\x00\x09", b"\x02\x00\x02no", "hello", ""):
            ann.say(message)
        ann.text.insert(0, "fine")
        await until(lambda: text_of(ann.told) == "fine")


async def test_an_update_with_a_gap_waits_for_what_is_missing() -> None:
    """It is not taken; its sender is asked for all it has, which brings it. Until then what builds on it is not taken either."""
    ann = Editor("ann")
    ann.text.insert(0, "one ")
    async with pages() as app, app.connect("/parties/page/a") as socket:
        await socket.receive()
        later: list[bytes] = []
        ann.doc.observe(lambda event: later.append(event.update))
        ann.text.insert(4, "two ")
        ann.text.insert(8, "three")
        await socket.send(protocol.update(later[0]))
        assert await socket.receive() == protocol.step1(b"\x00")
        await socket.send(protocol.update(later[1]))
        assert await app.env.PAGE.get("a").text() == ""
        await socket.send(protocol.step2(ann.doc.get_update()))
        assert await socket.receive() == protocol.update(ann.doc.get_update())
        assert await app.env.PAGE.get("a").text() == "one two three"


async def test_an_answer_with_a_gap_closes_the_connection() -> None:
    """Who is asked for everything and does not give it cannot take part."""
    doc: Doc = pycrdt.Doc()
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    words = doc.get("text", type=pycrdt.Text)
    words.insert(0, "one ")
    words.insert(4, "two ")
    async with pages() as app, app.connect("/parties/page/a") as socket:
        await socket.send(protocol.step2(updates[-1]))
        await socket.wait_closed()
        assert (socket.close_code, "builds on others" in (socket.close_reason or "")) == (1008, True)
        assert await app.env.PAGE.get("a").keys() == []


async def test_a_full_document_refuses_more() -> None:
    """Past its bound the connection is closed with a code that y-websocket takes as final; what makes it smaller is welcome."""
    ann, bob = Editor("ann"), Editor("bob")
    async with pages() as app, bob.at(app, "/parties/small/a"):
        bob.text.insert(0, "small")
        await until(lambda: text_of(bob.told) == "small")
        async with app.connect("/parties/small/a") as socket:
            ann.text.insert(0, "x" * 2_000)
            await socket.send(protocol.update(ann.doc.get_update()))
            await socket.wait_closed()
            assert (socket.close_code, "2,000 bytes" in (socket.close_reason or "")) == (room.FULL, True)
        with pytest.raises(Invalid, match="its limit"):
            await app.env.SMALL.get("a").write("y" * 2_000)
        assert await app.env.SMALL.get("a").text() == "small"


# -- batches ---------------------------------------------------------------------------------------------------------------------


def in_pieces(message: bytes, size: int = 1_000_000, id: str = "k3") -> list[str | bytes]:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    said = f'"id":"{id}","size":{len(message)},"count":{len(pieces)}'
    return [f'y-pk-batch#{{{said},"type":"start"}}', *pieces, f'y-pk-batch#{{{said},"type":"end"}}']


async def test_a_message_in_pieces_is_one() -> None:
    """2.5 MB as `y-partykit` sends it, stored in pieces of its own; it survives a crash, and a later client gets it whole."""
    ann, bob = Editor("ann"), Editor("bob")
    ann.text.insert(0, "x" * 2_500_000)
    async with pages() as app:
        async with app.connect("/parties/page/a") as socket:
            for frame in in_pieces(protocol.update(ann.doc.get_update())):
                await socket.send(frame)
            await socket.receive()
            assert await socket.receive() == protocol.update(ann.doc.get_update())
        assert len(await app.env.PAGE.get("a").keys()) == 3
        await app.crash()
        async with bob.at(app):
            await until(lambda: text_of(bob.doc) == text_of(ann.doc))


async def test_a_batch_whose_start_was_forgotten_is_asked_for_again() -> None:
    """A room that leaves memory between the pieces drops the rest, and its question brings all of it."""
    ann = Editor("ann")
    ann.text.insert(0, "x" * 100)
    async with pages() as app, app.connect("/parties/page/a") as socket:
        assert await socket.receive() == protocol.step1(b"\x00")
        start, piece, *rest = in_pieces(protocol.update(ann.doc.get_update()), 50)
        await socket.send(start)
        await socket.send(piece)
        await app.env.PAGE.get("a").text()
        await app.evict(app.env.PAGE.get("a"))
        for frame in rest:
            await socket.send(frame)
        assert await socket.receive() == protocol.step1(b"\x00")
        await socket.send(protocol.step2(ann.doc.get_update()))
        assert await socket.receive() == protocol.update(ann.doc.get_update())


async def test_open_batches_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections together: who goes past it is closed with 1013, and the others' batches arrive."""
    monkeypatch.setattr(room, "OPEN_BATCHES_BYTES_MAX", 200)
    ann = Editor("ann")
    ann.text.insert(0, "x" * 100)
    frames = in_pieces(protocol.update(ann.doc.get_update()), 50)
    async with pages() as app, app.connect("/parties/page/a") as one, app.connect("/parties/page/a") as two:
        await one.send(frames[0])
        await one.send(frames[1])
        await app.env.PAGE.get("a").text()
        await two.send(in_pieces(b"x" * 1000)[0])
        await two.send(b"x" * 200)
        await two.wait_closed()
        assert two.close_code == 1013
        for frame in frames[2:]:
            await one.send(frame)
        await one.receive()
        assert await one.receive() == protocol.update(ann.doc.get_update())


# -- read-only, custom messages --------------------------------------------------------------------------------------------------


async def test_who_may_only_read_cannot_change_and_sees_the_rest() -> None:
    """Their changes are dropped, they are told once and stay connected; documents and presence reach them, theirs the others."""
    reader, writer = Editor("reader"), Editor("writer")
    reader.text.insert(0, "offline ")
    async with pages() as app, reader.at(app, "/parties/reading/a?ro=1"), writer.at(app, "/parties/reading/a"):
        await until(lambda: len(writer.sees()) == 2)
        assert reader.denials == 0  # for what it was asked for it is not blamed
        reader.text.insert(0, "x")
        reader.text.insert(0, "y")
        await app.evict(app.env.READING.get("a"))
        reader.text.insert(0, "z")
        writer.text.insert(0, "hello")
        await until(lambda: "hello" in text_of(reader.doc))
        await until(lambda: reader.denials == 1)
        assert await app.env.READING.get("a").text() == text_of(writer.doc) == "hello"


async def test_custom_messages_reach_those_who_understand_text() -> None:
    """Both ways for who has sent one, through a hibernation; never a text to who has not: it would break `y-websocket`."""
    old, new, third = Editor("old"), Editor("new"), Editor("third")
    path = "/parties/talking/a"
    async with pages() as app, old.at(app, path), new.at(app, path), third.at(app, path):
        third.say("__YPS:here")
        await until(lambda: third.texts == ["__YPS:HERE"])
        await app.evict(app.env.TALKING.get("a"))
        new.say("__YPS:hi")
        await until(lambda: new.texts == ["__YPS:HI"] and third.texts[1:] == ["__YPS:hi"])
        assert old.texts == []


# -- the server's own edits ------------------------------------------------------------------------------------------------------


async def test_the_servers_edits_are_stored_and_told() -> None:
    """In any turn, with its commit."""
    ann = Editor("ann")
    async with pages() as app, ann.at(app):
        await app.env.PAGE.get("a").write("from the server ")
        await until(lambda: text_of(ann.doc) == "from the server ")
        await app.crash()
        assert await app.env.PAGE.get("a").text() == "from the server "


async def test_an_edit_of_a_turn_that_fails_leaves_no_trace() -> None:
    """Neither in memory nor in storage nor at the clients; with a transaction() that is rolled back it is the same."""
    ann = Editor("ann")
    async with pages() as app, ann.at(app):
        room = app.env.PAGE.get("a")
        await room.write("kept ")
        with pytest.raises(ValueError, match="after all not"):
            await room.write("lost ", fail=True)
        assert await room.text() == "kept "
        await room.write_and_take_back("lost ")
        ann.text.insert(0, "more ")
        await until(lambda: sorted(text_of(ann.told).split()) == ["kept", "more"])
        await app.crash()
        assert sorted((await room.text()).split()) == ["kept", "more"]


async def test_changes_outside_edit_are_errors() -> None:
    """They would be in memory alone: the instance is dropped, and the message says what to write. @reads methods cannot edit."""
    async with pages() as app:
        room = app.env.PAGE.get("a")
        with pytest.raises(Aborted, match="async with self.edit"):
            await room.write_outside()
        with pytest.raises(Invalid, match="@reads"):
            await room.write_while_reading()
        with pytest.raises(Aborted, match="panicked"):
            await room.panic()
        assert await room.text() == ""


# -- storage ---------------------------------------------------------------------------------------------------------------------


async def test_the_log_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of updates, or their size, one snapshot takes their place; the document is the same, also after a crash."""
    monkeypatch.setattr(log, "FOLD_UPDATES", 10)
    async with pages() as app:
        room = app.env.PAGE.get("a")
        for number in range(35):
            await room.write(f"{number} ")
            assert len(await room.keys()) <= 11
        words = await room.text()
        await app.crash()
        assert await room.text() == words == "".join(f"{number} " for number in reversed(range(35)))
        monkeypatch.setattr(log, "FOLD_UPDATES", 1000)
        monkeypatch.setattr(log, "FOLD_BYTES", 3_000)
        for number in range(20):
            await room.write(f"{number}" * 500)
        assert len(await room.keys()) < 15


async def test_history_keeps_the_newest_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least that many versions can be gone back to; older ones are one."""
    monkeypatch.setattr(log, "FOLD_UPDATES", 10)
    async with pages() as app:
        room = app.env.REMEMBERING.get("a")
        for number in range(33):
            await room.write(f"{number} ")
        versions = await room.versions()
        assert 5 < len(versions) <= 5 + 10
        assert versions == ["".join(f"{n} " for n in reversed(range(last + 1))) for last in range(33 - len(versions), 33)]


async def test_a_document_comes_from_elsewhere_once() -> None:
    """on_load is asked by a document that has never been changed here; what it gave is stored, so it does not come twice."""
    ann = Editor("ann")
    async with pages() as app:
        room = app.env.SAVING.get("a")
        assert await room.text() == "once upon a time"
        await app.crash()
        assert len(await room.keys()) == 1
        async with ann.at(app, "/parties/saving/a"):
            await until(lambda: text_of(ann.doc) == "once upon a time")


async def test_saving_waits_for_a_pause_but_not_for_ever() -> None:
    """2 s after the last of a burst of changes, 10 s after the first if they go on; again if it fails; not without a change."""
    async with pages() as app:
        room = app.env.SAVING.get("b")
        assert await room.text() == "once upon a time"
        Saving.saved.clear()
        began = app.clock.now_ms() / 1000
        for _ in range(5):
            await room.write("a")
            await sleep(1)
        await sleep(5)
        assert [(round(at - began), words[:7]) for at, words in Saving.saved] == [(6, "aaaaaon")]
        Saving.saved.clear()
        began = app.clock.now_ms() / 1000
        for _ in range(11):
            await room.write("b")
            await sleep(1)
        assert [round(at - began) for at, _ in Saving.saved] == [10]
        await sleep(60)
        Saving.saved.clear()
        Saving.fails = 1
        await room.write("c")
        await app.evict(room)
        await sleep(30)
        assert [words[0] for _, words in Saving.saved] == ["c", "c"]
        await app.crash()
        await sleep(60)
        assert len(Saving.saved) == 2


# -- properties ------------------------------------------------------------------------------------------------------------------


def real_updates(chance: Chance) -> list[bytes]:
    """Of two documents that are edited in turns and told of each other now and then."""
    docs: list[Doc] = [pycrdt.Doc(), pycrdt.Doc()]
    updates: list[bytes] = []
    for doc in docs:
        doc.observe(lambda event: updates.append(event.update))
    for _ in range(40):
        doc = docs[chance.below(2)]
        words = doc.get("text", type=pycrdt.Text)
        match chance.below(4):
            case 0 if len(words):
                del words[chance.below(len(words))]
            case 1:
                doc.get("map", type=pycrdt.Map)[str(chance.below(5))] = pycrdt.Text("nested")
            case 2:
                docs[0].apply_update(docs[1].get_update())
                docs[1].apply_update(docs[0].get_update())
            case _:
                words.insert(chance.below(len(words) + 1), "hello"[: 1 + chance.below(4)])
    return [*updates, docs[0].get_update(), docs[1].get_update()]


def content(doc: Doc) -> tuple[str, dict[str, str]]:
    notes = doc.get("map", type=pycrdt.Map)
    return text_of(doc), {key: str(notes[key]) for key in notes.keys()}  # noqa: SIM118 - pycrdt's maps are no mappings


def test_the_changes_are_the_document() -> None:
    """In whatever order updates arrive, doubled or with others missing: the changes that were taken make the same document as they
    made here, one by one and as a snapshot."""
    for seed in range(150):
        chance = Chance(seed)
        updates = real_updates(chance)
        taken: list[bytes] = []
        document = Document(taken, lambda: None)
        for _ in range(60):
            try:
                change = document.apply(updates[chance.below(len(updates))])
            except Gap:
                document = Document(taken, lambda: None)
                continue
            if change is not None:
                taken.append(change)
        expected = content(document.doc)
        assert content(Document(taken, lambda: None).doc) == expected, seed
        assert content(Document([document.update()], lambda: None).doc) == expected, seed


def test_hostile_updates_are_refused_whole() -> None:
    """Real updates with bytes changed, cut off or put in: taken or refused with one of three errors, and what was
    taken can always be read again."""
    for seed in range(50):
        chance = Chance(seed)
        updates = real_updates(chance)
        taken: list[bytes] = []
        document = Document(taken, lambda: None)
        for _ in range(100):
            hostile = bytearray(updates[chance.below(len(updates))])
            for _ in range(chance.below(4)):
                at = chance.below(len(hostile))
                hostile[at : at + chance.below(3)] = bytes([chance.below(256)])[: chance.below(2)]
            try:
                change = document.apply(bytes(hostile))
            except Malformed:
                continue
            except (Gap, Torn):
                document = Document(taken, lambda: None)
                continue
            if change is not None:
                taken.append(change)
        again = Document(taken, lambda: None)
        assert Document([again.update()], lambda: None).update() == again.update(), seed


async def converge(seed: int) -> None:
    """Editors, and a world that drops, evicts and crashes; then peace."""
    chance = Chance(seed)
    editors = [Editor(name) for name in "abc"]
    async with pages(seed) as app, asyncio.TaskGroup() as tasks:
        room = app.env.PAGE.get("a")
        lives = [tasks.create_task(editor.live(app)) for editor in editors]
        for _ in range(40):
            editor = editors[chance.below(3)]
            match chance.below(12):
                case 0:
                    await app.evict(room)
                case 1:
                    await app.crash()
                case 2 if editor.socket is not None:
                    editor.socket.drop()
                case 3:
                    app.fail_next_commit()
                case 4:
                    await sleep(chance.below(30) / 10)
                case 5 | 6 if len(editor.text):
                    del editor.text[chance.below(len(editor.text))]
                case _:
                    editor.text.insert(chance.below(len(editor.text) + 1), editor.name)
                    if chance.below(2):
                        await sleep(chance.below(10) / 100)
        told = [editor.told.get_state() for editor in editors]
        before_crash = [lives.pop().cancel() for _ in editors]
        assert all(before_crash)
        await app.crash()
        kept: Doc = pycrdt.Doc()
        kept.apply_update(await _whole(app))
        for state, editor in zip(told, editors, strict=True):
            assert _covers(kept.get_state(), state), f"{editor.name} was told of what is lost"
        lives.extend(tasks.create_task(editor.live(app)) for editor in editors)
        for _ in range(600):
            await sleep(0.1)
            if len({text_of(editor.doc) for editor in editors}) == 1 and text_of(editors[0].doc) == await room.text():
                break
        texts = [text_of(editor.doc) for editor in editors]
        assert texts == [await room.text()] * 3
        for life in lives:
            life.cancel()


async def _whole(app: TestApp) -> bytes:
    async with app.connect("/parties/page/a") as socket:
        await socket.send(protocol.step1(b"\x00"))
        while True:
            message = await socket.receive()
            assert isinstance(message, bytes)
            if (read := read_message(message)).kind is Kind.STEP2:
                return read.payload


def _covers(state: bytes, part: bytes) -> bool:
    def counts(data: bytes) -> dict[int, int]:
        reader = protocol.Reader(data)
        return {reader.varuint(): reader.varuint() for _ in range(reader.varuint())}

    whole = counts(state)
    return all(whole.get(client, 0) >= count for client, count in counts(part).items())


def test_editors_converge_and_nothing_told_is_lost() -> None:
    """Over many seeds of concurrent edits with evictions, crashes, lost commits and dropped connections: what anyone was told of
    is there after a crash, and once the world is quiet everyone has the same document."""
    check(converge, 60)


async def _told_only(room: YRoom, change: bytes) -> None:
    room.broadcast(protocol.update(change))


def test_the_property_finds_what_is_told_and_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that tells of a change without storing it does not get through."""
    monkeypatch.setattr(YRoom, "_keep", _told_only)
    find(converge, 20)


def test_the_property_finds_a_log_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one whose newest update is not read again."""
    load = log.UpdateLog.load

    async def forgetful(self: log.UpdateLog) -> list[bytes]:
        return (await load(self))[:-1]

    monkeypatch.setattr(log.UpdateLog, "load", forgetful)
    find(converge, 20)


def test_a_hostile_count_costs_nothing() -> None:
    """Hundreds of millions of clients in fifty bytes are refused before pycrdt makes room for them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    document = Document((), lambda: None)
    for take in (document.apply, document.update):
        with pytest.raises(Malformed, match="268,435,456 clients in 50 bytes"):
            take(protocol.varuint(2**28) + b"\x01" * 50)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_the_closed_document_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that takes updates with gaps is not the one that its log makes."""
    monkeypatch.setattr(Document, "_lacks", lambda self, update: False)
    with pytest.raises(AssertionError):
        test_the_changes_are_the_document()
