"""Everything that can be delivered, as frozen values.

An event says all there is to know about one delivery, so that a process boundary or a network can stand between who sends and who
handles it. `chain` lists the turns that wait for this one, outermost first: a call that comes back to an actor in it runs nested.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from stead.ids import ActorId


class TurnRef(msgspec.Struct, frozen=True, gc=False):
    """One turn of one actor, by a number that its node never uses again."""

    actor: ActorId
    number: int


Chain = tuple[TurnRef, ...]


class Origin(msgspec.Struct, frozen=True):
    """Where a signal comes from: its number, which the sender gives once in a history. What is below `floor` is settled for good.

    `generation` is the history: that of the store in which the sender was claimed. After a failover that lost commits another
    signal may have the number of one that was lost.
    """

    sender: str
    number: int
    floor: int
    generation: int = 0


class Call(msgspec.Struct, frozen=True):
    """A method call. `arguments` is the codec's encoding of `[positional list, keyword dict]`. The reply is the encoded result.

    With an `origin` or an `idempotency_key` it takes effect once, however often it comes: a repeat gets the first one's reply.
    Of a service, which keeps nothing, the calls that it makes do. `location_hint` is the region where the actor should be taken in
    if no node has it.
    """

    method: str
    arguments: bytes
    chain: Chain = ()
    origin: Origin | None = None
    idempotency_key: str | None = None
    location_hint: str = ""


class Settled(msgspec.Struct, frozen=True):
    """The sender of signals will not repeat those below the origin's floor. The reply is None."""

    origin: Origin
    chain: Chain = ()


class Fetch(msgspec.Struct, frozen=True):
    """An HTTP request. `scope` holds ASGI's plain HTTP keys only; `receive` streams the body. The reply is a `Response`.

    The handshake of a WebSocket is one, too: a GET with its headers. A `Handover` as the reply lets the client in.
    With an `idempotency_key` the calls that a service makes to answer it take effect once, and the reply has its whole body.
    """

    scope: dict[str, Any]
    receive: Receive
    chain: Chain = ()
    idempotency_key: str | None = None
    location_hint: str = ""  # as of a `Call`


class AlarmDue(msgspec.Struct, frozen=True):
    """An alarm whose time has come, as the index said. The reply is None."""

    name: str
    due_ms: int
    chain: Chain = ()


class SocketOpened(msgspec.Struct, frozen=True):
    """A client's connection is open; `scope` is that of its handshake. `socket` is its key, used once. The reply is None."""

    socket: int
    scope: dict[str, Any]
    chain: Chain = ()


class SocketMessage(msgspec.Struct, frozen=True):
    """A message from a socket. The reply is None."""

    socket: int
    message: str | bytes
    chain: Chain = ()


class SocketFailed(msgspec.Struct, frozen=True):
    """A message of the socket could not be handled, or its connection failed. The reply is None."""

    socket: int
    error: Exception
    chain: Chain = ()


class SocketClosed(msgspec.Struct, frozen=True):
    """The connection has ended, with the code and reason of RFC 6455, section 7.1.5. The reply is None."""

    socket: int
    code: int
    reason: str
    chain: Chain = ()


SocketEvent = SocketOpened | SocketMessage | SocketFailed | SocketClosed

Event = Call | Fetch | AlarmDue | Settled | SocketEvent


class Frame:
    """A message on its way to sockets. `encoded` is the edge's: one encoding serves all who get it."""

    __slots__ = ("encoded", "message")

    def __init__(self, message: str | bytes) -> None:
        self.message = message
        self.encoded: bytes | None = None


class Handover(Response):
    """The reply to a handshake that lets the client in: its socket belongs to `actor`, which sees the handshake as `scope`.

    `subprotocol` None answers the first that the client offers. `location_hint` is as of a `Call`.
    """

    def __init__(self, actor: ActorId, scope: dict[str, Any], subprotocol: str | None = None, location_hint: str = "") -> None:
        super().__init__(status_code=101)
        self.actor = actor
        self.scope = scope
        self.subprotocol = subprotocol
        self.location_hint = location_hint
