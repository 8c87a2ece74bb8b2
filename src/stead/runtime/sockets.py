"""A socket as the actor sees it: the implementation of `stead.Socket`.

It belongs to a room, not to an instance, so it outlives hibernation. What it is asked to do becomes an effect of the running turn;
asked outside turns (by spawned work), it waits for what was submitted so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from stead import codec
from stead.api import Sendable
from stead.errors import Invalid
from stead.events import Frame
from stead.ids import ActorId
from stead.runtime.effects import Kept
from stead.runtime.gate import Held
from stead.runtime.responses import NOT_JSON, encode_json
from stead.runtime.turn import CURRENT, acting

STATE_BYTES_MAX = 16 * 1024  # of a connection's state, and of its attachment: it is held in memory while the connection lasts
REASON_BYTES_MAX = 123  # what a closing frame has room for
_CODES = frozenset({1000, 1001, 1003, *range(1007, 1015)})  # of the protocol's own, those that an endpoint may send
_NEW = Kept()


class Wire(Protocol):
    """The way to a client. Nothing here raises."""

    def send(self, frame: Frame) -> None:
        """Send a message. What several are sent has one encoding, which the first keeps in `frame.encoded`."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; harmless when it has begun or the client is gone."""
        ...

    def pause(self) -> None:
        """Take no more from the client for now: what comes yet is what was read already."""
        ...

    def resume(self) -> None:
        """Go on taking."""
        ...


class Receiver(Protocol):
    """Who gets what a client sends. Neither method may raise."""

    def message(self, data: str | bytes) -> None:
        """The next message, in order."""
        ...

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        """The end, once, and nothing after it; with what failed, if anything did."""
        ...


class Seat(Protocol):
    """Where a connection lives on when its actor goes to another node. It hears what the next room has to know of it."""

    def opened(self, tags: Sequence[str]) -> None:
        """What `on_connect` did is durable."""
        ...

    def kept(self, kept: Kept) -> None:
        """These values are durable."""
        ...

    def handled(self) -> None:
        """The next message has had its turn, or needs none."""
        ...

    def gone(self) -> None:
        """The last event of the connection has ended."""
        ...


class Host(Protocol):
    """The room, as its sockets see it."""

    actor: ActorId

    def act(self, what: str, effect: Held, size_bytes: int = 0) -> None:
        """Let `effect` leave with the running turn; outside turns as soon as what was submitted is durable."""
        ...

    def end(self, socket: RoomSocket, code: int, reason: str) -> None:
        """Close a connection and let `on_close` run."""
        ...


class RoomSocket:
    """One connection. `key` is its number on the node; `is_connected` until the wire is gone or was closed.

    On a node that is alone a connection ends with the process, and has no seat.
    """

    __slots__ = ("durable", "id", "is_connected", "key", "room", "sealed", "seat", "tags", "uri", "wire")

    def __init__(self, room: Host, key: int, wire: Wire, id: str, uri: str, seat: Seat | None = None) -> None:
        self.room = room
        self.key = key
        self.wire = wire
        self.id = id
        self.uri = uri
        self.seat = seat
        self.tags: tuple[str, ...] = (id,)
        self.is_connected = True
        self.sealed = self.durable = _NEW

    @property
    def is_open(self) -> bool:
        return self.is_connected and not self._now("is_closing")

    @property
    def state(self) -> Any:
        return _decoded(self._now("state"))

    def set_state(self, value: Any) -> Any:
        if callable(value):
            value = value(self.state)
        self._keep("socket.set_state()", "state", value)
        return value

    @property
    def attachment(self) -> Any:
        return _decoded(self._now("attachment"))

    @attachment.setter
    def attachment(self, value: Any) -> None:
        self._keep("setting socket.attachment", "attachment", value)

    def send(self, message: Sendable) -> None:
        frame = Frame(as_message(message))
        self.room.act("socket.send()", Sending((self,), frame), len(frame.message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        _check_closing(code, reason)
        turn = acting(self.room.actor, "socket.close()")
        if turn is not None:
            turn.effect().change(self, "is_closing", True)
        self.room.act("socket.close()", Closing(self, code, reason))

    def settle(self, name: str, value: Any) -> None:
        self.durable = self.durable._replace(**{name: value})
        if self.seat is not None:
            self.seat.kept(self.durable)

    def __repr__(self) -> str:
        return f"<Socket {self.id!r} of {self.room.actor}>"

    def _now(self, name: str) -> Any:
        """A kept value as the running turn sees it."""
        turn = CURRENT.get()
        sealed = getattr(self.sealed, name)
        return sealed if turn is None or turn.effects is None else turn.effects.changed(self, name, sealed)

    def _keep(self, what: str, name: str, value: object) -> None:
        turn = acting(self.room.actor, what)
        if turn is None:
            raise Invalid(f"{what} outside a turn of {self.room.actor}; enter one with `async with self.ctx.turn():`")
        turn.check(what, writes=True)
        turn.effect().change(self, name, codec.encode(value, STATE_BYTES_MAX))


class Sending:
    """A message that leaves for the sockets that are connected then."""

    __slots__ = ("_frame", "_sockets")

    def __init__(self, sockets: Iterable[RoomSocket], frame: Frame) -> None:
        self._sockets = sockets
        self._frame = frame

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            for socket in self._sockets:
                if socket.is_connected:
                    socket.wire.send(self._frame)


class Closing:
    """A connection that is closed."""

    __slots__ = ("_code", "_reason", "_socket")

    def __init__(self, socket: RoomSocket, code: int, reason: str) -> None:
        self._socket = socket
        self._code = code
        self._reason = reason

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self._socket.sealed = self._socket.sealed._replace(is_closing=True)  # asked for outside turns it is news
            self._socket.room.end(self._socket, self._code, self._reason)


def as_message(value: Sendable) -> str | bytes:
    """What goes to a client. Raises `Invalid` for what cannot be sent or is larger than a message may be."""
    message: str | bytes
    if isinstance(value, str):
        message, size_bytes = value, _text_bytes(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        message = bytes(value)
        size_bytes = len(message)
    elif isinstance(value, dict | list):
        data = _json(value)
        message, size_bytes = data.decode(), len(data)
    else:
        raise Invalid(f"a message is str, bytes, or a dict or list that goes as JSON, not {type(value).__name__}")
    if size_bytes > codec.MESSAGE_BYTES_MAX:
        raise Invalid(f"the message has {size_bytes:,} bytes; the limit is {codec.MESSAGE_BYTES_MAX:,}")
    return message


def _text_bytes(text: str) -> int:
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as exc:
        raise Invalid("a message must be valid Unicode (it holds a lone surrogate)") from exc


def _json(value: object) -> bytes:
    try:
        return encode_json(value)
    except NOT_JSON as exc:
        raise Invalid(f"the message cannot be written as JSON: {exc}") from exc


def _check_closing(code: int, reason: str) -> None:
    if isinstance(code, bool) or not isinstance(code, int) or not (code in _CODES or 3000 <= code <= 4999):
        raise Invalid(f"a socket cannot be closed with {code!r}; use 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999")
    if not isinstance(reason, str) or _text_bytes(reason) > REASON_BYTES_MAX:
        raise Invalid(f"the reason of a closing is text of at most {REASON_BYTES_MAX} bytes in UTF-8")


def _decoded(data: bytes | None) -> Any:
    return None if data is None else codec.decode(data)
