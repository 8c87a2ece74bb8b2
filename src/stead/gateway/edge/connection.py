"""One WebSocket connection, from its handshake to its end, as callbacks of its transport.

```
HANDSHAKE ──open()──► OPEN ──close()──► CLOSING ──the peer answers, or CLOSE_S pass──► OVER
    │                  ├──the peer closes (answered at once), or breaks a rule──────────► OVER
    └──respond()───────┴──────────────────────────the transport is lost─────────────────► OVER
```

While it is OPEN its `Receiver` gets messages; it learns the end exactly once, and after that nothing. An open connection that is
silent is this object, its reader, its transport and a place in the heartbeat: no task, no timer, no buffer.

What a peer does not read waits in the transport. Once more than the limit waits, the next message is not added to it: the
connection is closed with 1013. A connection that was failed goes on reading what it throws away, until the peer has had CLOSE_S to
read why: closing a socket with unread input would discard that.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from stead.codec import MESSAGE_BYTES_MAX
from stead.errors import SteadError
from stead.events import Frame
from stead.gateway.edge.frames import (
    CLOSE,
    LOST,
    PING,
    PONG,
    Control,
    FrameReader,
    Violation,
    encode_close,
    encode_frame,
    encode_message,
    parse_close,
)
from stead.gateway.edge.heartbeat import Heartbeat

CLOSE_S = 3.0  # for the peer's answer to a close, and for reading what was sent before
EARLY_BYTES_MAX = 64 * 1024  # that a client may send before it was let in; clients wait
STOPPING = "the server stops"
OK, RESTARTING, TRY_LATER = 1000, 1012, 1013
_PING = encode_frame(PING, b"")


class SocketLimits(msgspec.Struct, frozen=True):
    """What a WebSocket may send, let wait, and be silent."""

    message_bytes_max: int = MESSAGE_BYTES_MAX  # of one message, in however many frames
    buffer_bytes_max: int = 8 * 1024 * 1024  # sent to a client that does not read; past it the connection is closed
    ping_s: float = 20.0  # of silence, after which the client is asked; proxies usually wait 60 s
    pong_s: float = 20.0  # for its answer


class ConnectionFailed(SteadError):
    """The connection was ended because its client did not answer, or did not read what it was sent."""


class Wire(Protocol):
    """The way back to a client."""

    def send(self, frame: Frame) -> None:
        """Send a message; nothing once the connection is closing."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; nothing once it has begun."""
        ...

    def pause(self) -> None:
        """Take nothing more from the client for now."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...


class Receiver(Protocol):
    """Who gets what a client sends. Neither method may raise."""

    def message(self, data: str | bytes) -> None:
        """The next message, in order."""
        ...

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        """The end, once, and nothing after it: as the client closed it, as we did, or 1006; with what failed, if anything did."""
        ...


class State(enum.IntEnum):
    HANDSHAKE, OPEN, CLOSING, OVER = range(4)


HANDSHAKE, OPEN, CLOSING, OVER = State  # names are looked up for every message


class Connection(asyncio.Protocol):
    """A transport whose next bytes are frames. `on_lost` is called once it is gone."""

    __slots__ = (
        "_close",
        "_heartbeat",
        "_is_paused",
        "_limits",
        "_on_lost",
        "_outcome",
        "_reader",
        "_receiver",
        "_state",
        "_timer",
        "_transport",
        "_unsent_bytes",
        "_writing",
        "seen_tick",
        "slot",
    )

    seen_tick: int
    slot: int

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: SocketLimits,
        heartbeat: Heartbeat,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._heartbeat = heartbeat
        self._on_lost = on_lost
        self._reader = FrameReader(limits.message_bytes_max)
        self._receiver: Receiver | None = None
        self._state = HANDSHAKE
        self._is_paused = False
        self._close: tuple[int, str] = (LOST, "")  # ours; the outcome, should the peer answer
        self._outcome: tuple[int, str, Exception | None] = (LOST, "", None)  # should the transport be lost now
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Event | None = None  # set while the transport wants more; made when somebody waits for that
        self._unsent_bytes = 0  # when the heartbeat looked last
        self.seen_tick = heartbeat.tick

    # -- the handshake -------------------------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether the transport is closed or about to be: nothing can be answered any more."""
        return self._state is OVER or self._transport.is_closing()

    def open(self, switch: bytes, receiver: Callable[[Wire], Receiver]) -> None:
        """Answer the handshake with `switch`, then connect the wire to who receives: what has come already is delivered at once."""
        assert self._state is HANDSHAKE and not self.is_lost
        self._transport.write(switch)
        self._state = OPEN
        self._heartbeat.add(self)
        self._receiver = receiver(self)
        if self._close[0] == RESTARTING:
            self.close(*self._close)
        if not self._is_paused:
            self.resume()

    def respond(self, data: bytes, *, is_last: bool) -> None:
        """Answer the handshake with a part of a response instead."""
        if self._state is HANDSHAKE and not self._transport.is_closing():
            self._transport.write(data)
            if is_last:
                self._state = OVER
                self._transport.close()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._transport.abort()

    def shutdown(self) -> None:
        """The server stops: send the client away, or as soon as it is in. The name is uvicorn's."""
        if self._state is HANDSHAKE:
            self._close = RESTARTING, STOPPING
        self.close(RESTARTING, STOPPING)

    async def wait_writable(self) -> None:
        """Until the transport takes more without piling it up, or is gone."""
        if self._writing is not None:
            await self._writing.wait()

    # -- the wire ------------------------------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        if self._state is not OPEN:
            return
        data = frame.encoded
        if data is None:
            data = frame.encoded = encode_message(frame.message)
        self._write(data)

    def close(self, code: int, reason: str) -> None:
        if self._state is not OPEN:
            return
        self._transport.write(encode_close(code, reason))
        self._leave(CLOSING)
        self._close = code, reason
        self._drop_later()
        if self._is_paused:  # its answer is wanted
            self.resume()

    def pause(self) -> None:
        if not self._is_paused and self._state is OPEN:
            self._is_paused = True
            self._set_reading(False)

    def resume(self) -> None:
        self._is_paused = False
        self._set_reading(True)
        if self._reader.unread_bytes:
            asyncio.get_running_loop().call_soon(self._read)  # whoever resumes is in the middle of something

    # -- the heartbeat -------------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._transport.write(_PING)

    def is_excused(self) -> bool:
        """It is not listened to, or is still reading what was sent before the ping."""
        unsent_bytes, before = self._transport.get_write_buffer_size(), self._unsent_bytes
        self._unsent_bytes = unsent_bytes
        return self._is_paused or unsent_bytes < before

    def lose(self) -> None:
        if self._state is OPEN:
            self._outcome = LOST, "", ConnectionFailed("the client did not answer a ping")
            self._leave(OVER)
            self._transport.abort()
            self._report()

    # -- the transport -------------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.seen_tick = self._heartbeat.tick
        if self._state is OVER:
            return
        self._reader.feed(data)
        if self._state is not HANDSHAKE:
            self._read()
        elif self._reader.unread_bytes > EARLY_BYTES_MAX:
            self._set_reading(False)

    def pause_writing(self) -> None:
        self._writing = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writing is not None:
            self._writing.set()
            self._writing = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        if self._state is OPEN:
            self._read(to_end=True)  # what came before the end, a close perhaps, is not lost with it
        self._leave(OVER)
        self._report()
        self._on_lost(self)

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _read(self, *, to_end: bool = False) -> None:
        """Deliver what has come, until there is no more or, unless it is the last time, it is paused."""
        read = self._reader.read
        try:
            while (to_end or not self._is_paused) and self._state is not OVER:
                item = read()
                if item is None:
                    return
                if type(item) is Control:
                    self._control(item)
                elif self._state is OPEN:
                    assert self._receiver is not None
                    self._receiver.message(cast(str | bytes, item))
        except Violation as exc:
            self._fail(exc.code, exc)
            self._report()

    def _control(self, frame: Control) -> None:
        if frame.opcode == PING:
            if self._state is OPEN:
                self._write(encode_frame(PONG, frame.payload))
        elif frame.opcode == CLOSE:
            code, reason = parse_close(frame.payload)
            if self._state is OPEN:
                self._transport.write(encode_frame(CLOSE, frame.payload))
            else:
                code, reason = self._close
            self._outcome = code, reason, None
            self._leave(OVER)
            self._transport.close()
            self._drop_later()
            self._report()

    def _write(self, data: bytes) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        if waiting_bytes <= self._limits.buffer_bytes_max:
            self._transport.write(data)
            return
        reason = f"{waiting_bytes:,} bytes wait to be read; the limit is {self._limits.buffer_bytes_max:,}"
        self._fail(TRY_LATER, ConnectionFailed(reason))
        asyncio.get_running_loop().call_soon(self._report)  # whoever sends is in the middle of something, sending to all perhaps

    def _fail(self, code: int, error: Exception) -> None:
        """Say why, listen no more, and hang up as soon as the peer has had time to read it."""
        if self._state is OPEN:
            self._transport.write(encode_close(code, str(error)))
        self._outcome = code, str(error), error
        self._leave(OVER)
        self._drop_later()
        if self._transport.can_write_eof():
            self._set_reading(True)
            self._transport.write_eof()
        else:
            self._transport.close()

    def _report(self) -> None:
        """Tell the receiver how it ended, the first time."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.closed(*self._outcome)

    def _leave(self, state: State) -> None:
        if self._state is OPEN:
            self._heartbeat.remove(self)
        self._state = state

    def _drop_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def _set_reading(self, is_reading: bool) -> None:
        if not self._transport.is_closing() and self._transport.is_reading() is not is_reading:
            (self._transport.resume_reading if is_reading else self._transport.pause_reading)()
