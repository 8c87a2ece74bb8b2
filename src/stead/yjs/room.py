"""`YRoom`: a Yjs document as an actor, and the conversation with its clients.

The document is in memory as long as the instance is, and in storage as a log of updates (`log.py`). What changes it is taken,
stored and told to everyone in one turn, so nobody hears of a change that could still be lost, and whoever hears the echo of their
own knows that it is durable. A turn that fails takes its log entry back; then a new instance reads the log again.

A new instance asks every connection for what it may lack. So a change that was lost with a failed turn comes back from its author,
and so does a batch that was under way. Who is where survives in the connections' attachments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, ClassVar, Final

import pycrdt

from stead.api import Actor, AlarmInfo, Request, Socket, on_alarm
from stead.errors import Invalid
from stead.yjs import batches, protocol
from stead.yjs.awareness import UNKNOWN, Awareness
from stead.yjs.batches import Batch
from stead.yjs.document import Document, Gap, Torn, is_panic
from stead.yjs.log import FOLD_BYTES, UpdateLog
from stead.yjs.peer import Peer
from stead.yjs.protocol import Kind, Malformed, Message

CUSTOM: Final = "__YPS:"  # text of `y-partyserver`; any other would break `y-websocket`
OPEN_BATCHES_BYTES_MAX = 64 * 1024 * 1024  # pieces of messages that wait for the rest, of all connections together
MALFORMED = 1008  # closes a connection whose message is none
BUSY = 1013  # closes a connection whose batch has no room; trying again may help
FULL = 4413  # closes a connection whose change the document has no room for; `y-websocket` does not try again after 44xx
_REASON_CHARS = 120
_SAVE = "yjs:save"


class YRoom(Actor):
    """A Yjs document that many clients edit at once. Subclass it, and name it in the manifest with `visibility = "public"`.

    Hooks of `Actor` that a subclass overrides call `super()`'s. `doc` is the pycrdt document, for reading in any turn; change it
    inside `edit()`. It is another object after a hibernation, so do not keep it from one turn to the next.
    """

    hibernate_after_s = 25.0  # clients that renew their presence do so every 15 s: a room with one stays in memory
    document_bytes_max: ClassVar[int] = 30 * 1024 * 1024
    """Size of the document from which on changes are refused. A new client gets it as one message, of at most 32 MiB."""
    history_updates_max: ClassVar[int] = 0
    """Updates that are kept one by one, newest last, before older ones become one snapshot. 0: the document alone."""
    save_after_s: ClassVar[float] = 2.0
    """Seconds without a change after which `on_save` runs."""
    save_at_most_s: ClassVar[float] = 10.0
    """Seconds after the first change at which `on_save` runs even if changes go on."""

    def __init__(self) -> None:
        super().__init__()
        self._document = Document((), self._stray)
        self._awareness: Awareness[Socket] = Awareness()
        self._peers: dict[Socket, Peer] = {}
        self._batches: dict[Socket, Batch] = {}
        self._asked: set[Socket] = set()  # were asked for all they have: what they send before that is in it
        self._edited = False  # by the application's code, whose storage.transaction() may have taken it back since
        self._changed_ms = 0
        self._save_is_set: bool | None = None

    # -- what a subclass overrides -------------------------------------------------------------------------------------------------

    def is_read_only(self, socket: Socket, request: Request) -> bool | Awaitable[bool]:
        """Override to say of a new connection that it may not change the document. May be async."""
        return False

    async def on_load(self) -> bytes | None:
        """Override to give a document that has never been changed here its first content, as a Yjs update."""
        return None

    async def on_save(self, doc: pycrdt.Doc[Any]) -> None:
        """Override to write the document elsewhere. It runs some time after changes, and again if it raises, as any alarm."""

    async def on_custom_message(self, socket: Socket, message: str) -> None:
        """Override to handle what a client of `y-partyserver` sends with `sendMessage`."""

    # -- what a subclass uses ------------------------------------------------------------------------------------------------------

    @property
    def doc(self) -> pycrdt.Doc[Any]:
        """The document as it is now."""
        return self._document.doc

    @asynccontextmanager
    async def edit(self) -> AsyncIterator[pycrdt.Doc[Any]]:
        """Change the document: `async with self.edit() as doc:`. What the block changed is stored and told to all with the turn.

        A block that raises has changed what it had changed; if the turn raises, too, nothing of it stays. Raises `Invalid` outside
        a turn and in a `@reads` method, and if the document is too large then.
        """
        self.ctx.check_write("the document")
        await self._be_current()
        self._edited = True
        try:
            with self._document:
                yield self.doc
        except BaseException as exc:
            if is_panic(exc):  # of the document nothing can be said any more
                self.ctx.abort(f"pycrdt panicked: {exc}")
            raise
        finally:
            change = self._document.changes()
            if change is not None:
                await self._keep(change)
        if change is not None and not await self._has_room(0):
            raise Invalid(f"the document of {self.id} would have over {self.document_bytes_max:,} bytes, its limit")

    async def history(self) -> list[bytes]:
        """The updates that make the document, oldest first; the first stands for all that are not kept one by one."""
        return await self._log.load()

    def send_custom_message(self, socket: Socket, message: str) -> None:
        """Send text to a client of `y-partyserver`. One that has not sent any would not understand it, and gets none."""
        if self._peer(socket).takes_text:
            socket.send(CUSTOM + message)

    def broadcast_custom_message(self, message: str, exclude: Sequence[Socket] = ()) -> None:
        """`send_custom_message` to every open socket but those in `exclude`."""
        for socket in self.sockets():
            if socket not in exclude:
                self.send_custom_message(socket, message)

    # -- the actor's hooks ---------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        await super().on_start()
        self._log = UpdateLog(self.storage)
        await self._restore()
        if self._log.updates == 0 and (initial := await self.on_load()) is not None:
            await self._load(initial)
        for socket in reversed(self.sockets()):  # a client that came back speaks over its newest connection
            self._peer(socket)
            self._ask(socket)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        await super().on_connect(socket, request)
        read_only = self.is_read_only(socket, request)
        peer = Peer(read_only=await read_only if isawaitable(read_only) else read_only)
        self._peers[socket] = peer
        peer.keep(socket)
        socket.send(protocol.step1(self._document.state()))
        self._tell_clients(socket)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        peer = self._peer(socket)
        try:
            if isinstance(message, str):
                await self._on_text(socket, peer, message)
            elif peer.in_batch:
                self._on_piece(socket, message)
            else:
                await self._on_message(socket, peer, message)
        except Malformed as exc:
            self._close(socket, MALFORMED, str(exc))
        except Torn as exc:
            await self._restore()
            self._close(socket, MALFORMED, str(exc))

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        await super().on_close(socket, code, reason)
        self._peer(socket)  # its clients are known again, if this is what the room woke for
        gone = self._awareness.remove(socket)
        if gone:
            self.broadcast(protocol.awareness(gone))
        del self._peers[socket]
        self._batches.pop(socket, None)
        self._asked.discard(socket)

    # -- messages ------------------------------------------------------------------------------------------------------------------

    async def _on_message(self, socket: Socket, peer: Peer, data: bytes) -> None:
        message = protocol.read_message(data)
        match message.kind:
            case Kind.UPDATE | Kind.STEP2 if peer.read_only:
                self._deny(socket, peer, message)
            case Kind.UPDATE | Kind.STEP2:
                await self._on_update(socket, message)
            case Kind.STEP1:
                socket.send(protocol.step2(self._document.update(message.payload)))
            case Kind.AWARENESS:
                self._on_awareness(socket, peer, message.payload)
            case Kind.QUERY:
                self._tell_clients(socket)
            case Kind.UNKNOWN:
                pass

    async def _on_update(self, socket: Socket, message: Message) -> None:
        if message.kind is Kind.STEP2:
            self._asked.discard(socket)
        elif socket in self._asked:
            return
        await self._be_current()
        if not await self._has_room(len(message.payload)):
            self._close(socket, FULL, f"the document has no room: its limit is {self.document_bytes_max:,} bytes")
            return
        try:
            change = self._document.apply(message.payload)
        except Gap as exc:
            await self._restore()
            if message.kind is Kind.STEP2:
                raise Malformed(str(exc)) from exc
            self._asked.add(socket)
            socket.send(protocol.step1(self._document.state()))
        else:
            if change is not None:
                await self._keep(change)

    def _on_awareness(self, socket: Socket, peer: Peer, payload: bytes) -> None:
        news, corrections = self._awareness.apply(socket, protocol.read_clients(payload))
        if peer.speak_for(self._awareness.of(socket)):
            peer.keep(socket)
        if news:
            self.broadcast(protocol.awareness(news))
        if corrections:
            socket.send(protocol.awareness(corrections))

    async def _on_text(self, socket: Socket, peer: Peer, text: str) -> None:
        if text.startswith(CUSTOM):
            if not peer.takes_text:
                peer.takes_text = True
                peer.keep(socket)
            await self.on_custom_message(socket, text[len(CUSTOM) :])
        elif text.startswith(batches.PREFIX):
            await self._on_marker(socket, peer, batches.read_marker(text))

    async def _on_marker(self, socket: Socket, peer: Peer, marker: batches.Marker) -> None:
        is_start = marker.type == "start"
        if is_start == peer.in_batch:
            raise Malformed("a batch starts inside another" if is_start else "a batch ends that did not start")
        batch = self._batches.pop(socket, None)
        peer.in_batch = is_start
        peer.keep(socket)
        if is_start:
            self._batches[socket] = Batch(marker)
        elif batch is not None:
            await self._on_message(socket, peer, batch.end(marker))

    def _on_piece(self, socket: Socket, piece: bytes) -> None:
        batch = self._batches.get(socket)
        if batch is None:  # its beginning was lost with an instance; the next one has asked for all of it again
            return
        batch.add(piece)
        if sum(open_batch.size for open_batch in self._batches.values()) > OPEN_BATCHES_BYTES_MAX:
            self._close(socket, BUSY, "too many large messages are under way; try again later")

    def _deny(self, socket: Socket, peer: Peer, message: Message) -> None:
        """Drop a change; say so once, unless it was asked for."""
        if message.kind is Kind.UPDATE and not peer.was_denied:
            peer.was_denied = True
            peer.keep(socket)
            socket.send(protocol.denied("this connection may not change the document"))

    # -- connections ---------------------------------------------------------------------------------------------------------------

    def _peer(self, socket: Socket) -> Peer:
        """What is known of a connection, from its attachment if the instance is new."""
        peer = self._peers.get(socket)
        if peer is None:
            peer = Peer.of(socket)
            if peer is None:
                raise Invalid(f"{type(self).__name__}.on_connect() must call super().on_connect()")
            self._peers[socket] = peer
            self._awareness.restore(socket, peer.spoken_for())
        return peer

    def _ask(self, socket: Socket) -> None:
        """Ask a connection for what a new instance may lack."""
        socket.send(protocol.step1(self._document.state()))
        if any(client.state == UNKNOWN for client in self._awareness.of(socket)):
            socket.send(protocol.query())

    def _tell_clients(self, socket: Socket) -> None:
        states = self._awareness.states()
        if states:
            socket.send(protocol.awareness(states))

    def _close(self, socket: Socket, code: int, reason: str) -> None:
        self._batches.pop(socket, None)
        socket.close(code, reason[:_REASON_CHARS])

    # -- the document --------------------------------------------------------------------------------------------------------------

    async def _keep(self, change: bytes) -> None:
        """Store a change that the document has taken, and tell everyone."""
        await self._log.append(change)
        self.broadcast(protocol.update(change))
        if self._log.should_fold(self.history_updates_max):
            await self._fold(self.history_updates_max)
        if type(self).on_save is not YRoom.on_save:
            await self._save_later()

    async def _fold(self, keep: int) -> None:
        await self._log.fold(keep, self._snapshot if keep else lambda _: self._document.update())

    def _snapshot(self, updates: list[bytes]) -> bytes:
        return Document(updates, self._stray).update()

    async def _has_room(self, size_bytes: int) -> bool:
        """Whether the document stays within its limit with that much more. The log is never smaller than the document."""
        if self._log.size_bytes + size_bytes > self.document_bytes_max and self._log.tail_bytes > FOLD_BYTES:
            await self._fold(0)
        return self._log.size_bytes + size_bytes <= self.document_bytes_max

    async def _restore(self) -> None:
        """Make the document what is stored."""
        self._document = Document(await self._log.load(), self._stray)
        self._edited = False

    async def _be_current(self) -> None:
        """Go back to what is stored if a `storage.transaction()` that changed the document was rolled back."""
        if self._edited:
            self._edited = False
            if not await self._log.is_current():
                await self._restore()

    async def _load(self, initial: bytes) -> None:
        try:
            change = self._document.apply(initial)
        except (Malformed, Gap, Torn) as exc:
            raise Invalid(f"{type(self).__name__}.on_load() must return a whole document as a Yjs update: {exc}") from exc
        if change is not None:
            await self._log.append(change)

    def _stray(self) -> None:
        self.ctx.abort("the document was changed outside edit(); write: async with self.edit() as doc")

    # -- saving --------------------------------------------------------------------------------------------------------------------

    async def _save_later(self) -> None:
        """Let `on_save` run after a pause. One alarm serves a burst of changes: it looks for a pause when it is due."""
        self._changed_ms = self._now_ms()
        if self._save_is_set is None:
            alarm = await self.alarms.get(_SAVE)
            self._save_is_set = alarm is not None and not alarm.dead
        if not self._save_is_set:
            self._save_is_set = True
            at_most_ms = self._changed_ms + round(self.save_at_most_s * 1000)
            await self.alarms.set(_SAVE, min(self._pause_ends_ms(), at_most_ms), payload=at_most_ms)

    @on_alarm(_SAVE)
    async def _save(self, alarm: AlarmInfo) -> None:
        due_ms = min(self._pause_ends_ms(), alarm.payload)
        if due_ms > self._now_ms():
            await self.alarms.set(_SAVE, due_ms, payload=alarm.payload)
            return
        self._save_is_set = False
        await self.on_save(self.doc)

    def _pause_ends_ms(self) -> int:
        return self._changed_ms + round(self.save_after_s * 1000)

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)
