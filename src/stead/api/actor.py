"""`Actor`: the class that users subclass for state with a name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stead.api.context import ActorContext
from stead.api.http import Request, Response, ResponseLike
from stead.api.socket import Sendable, Socket
from stead.api.storage import AlarmInfo, Alarms, Sql, Storage
from stead.errors import Invalid
from stead.ids import ActorId

if TYPE_CHECKING:
    from stead.api.env import Env


class Actor:
    """One of many named things, each with its own durable state.

    Subclass it, name it in the manifest, and every public async method is callable from other units. Events of one actor run one at
    a time, and each is a transaction: what an event wrote is durable before anyone hears of it, and an event that raises leaves no
    trace.
    """

    hibernate_after_s: ClassVar[float] = 10.0
    """Seconds without an event after which the instance is dropped from memory."""
    turn_limit_s: ClassVar[float] = 30.0
    """Seconds that one event may take before it is cancelled and rolled back."""
    mailbox_events_max: ClassVar[int] = 1000
    """Events that may wait; the next one is refused with `Overloaded`."""
    sockets_max: ClassVar[int] = 10_000
    """Open sockets of one actor; the next one is refused with 503."""
    socket_messages_per_s: ClassVar[float | None] = None
    """Messages a second that one socket may send, with as many at once; who sends more is closed with 1008. None: no limit."""

    storage: Storage
    sql: Sql
    alarms: Alarms
    env: Env
    id: ActorId
    ctx: ActorContext

    async def on_start(self) -> None:
        """Override to prepare a new instance, before its first event. If it raises, that event fails with its error."""

    async def fetch(self, request: Request) -> ResponseLike:
        """Override to answer HTTP requests."""
        raise Invalid(f"{type(self).__name__} has no fetch()")

    async def alarm(self, alarm: AlarmInfo) -> None:
        """Override to be called when an alarm is due. If it raises it runs again, up to six times, then the alarm is dead."""

    async def signal(self, method: str, /, *positional: Any, **named: Any) -> None:
        """Of a stub: call a method one-way, with the effect of once. Not to be overridden.

        In a turn the signal commits with the turn's state and is delivered after it, again and again until the target has it; the
        target runs it once. Outside turns it is a call whose result is dropped. A target that raises seven times over a minute or
        two leaves it dead: kept, and said in the log.
        """
        raise Invalid("signal() is for stubs: self.env.NAME.get(…).signal(method)")

    def with_idempotency_key(self, key: str) -> Self:
        """Of a stub: the same actor, whose methods run once for a key. Not to be overridden.

        A repeat with the same key within 24 h gets the first one's result, also across a crash. Calls that raise may be repeated.
        """
        raise Invalid("with_idempotency_key() is for stubs: self.env.NAME.get(…).with_idempotency_key(key)")

    async def connect(self, request: Request, subprotocol: str | None = None) -> Response:
        """Of a stub: the response that hands the socket of a handshake to this actor. Not to be overridden.

        `return await self.env.ROOM.get(name).connect(request)` in a `fetch` or a route. Raises 426 for a request that is no
        handshake. Without `subprotocol` the first that the client offers is answered.
        """
        raise Invalid("connect() is for stubs: self.env.NAME.get(…).connect(request)")

    # -- sockets -------------------------------------------------------------------------------------------------------------------

    async def on_connect(self, socket: Socket, request: Request) -> None:
        """Override to greet a new socket. Messages that it sends meanwhile wait. If it raises, the socket is closed with 1011."""

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        """Override to handle a message: a turn like any other. If it raises, nothing of it is sent and the socket stays open."""

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        """Override to learn that a socket has closed; it is no longer listed. 1006: the connection was lost without a goodbye."""

    async def on_error(self, socket: Socket, error: Exception) -> None:
        """Override to learn that `on_message` raised for this socket, or that its connection failed (then `on_close` follows)."""

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        """Override to check a handshake on a public address before the actor hears of it.

        Return None to go on, a `Request` to go on with that one (with more headers, say), or a `Response`, which is sent instead of
        the upgrade. Raising refuses with 401 and the error's message; an `HTTPException` with its own status.
        """
        return None

    @classmethod
    async def before_request(cls, request: Request, env: Env) -> Request | Response | None:
        """Override to check an HTTP request on a public address; as `before_connect`."""
        return None

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        """Override to group sockets: at most 10 tags of 1 to 256 characters. May be async. The id is a tag in any case."""
        return ()

    def sockets(self, tag: str | None = None) -> list[Socket]:
        """The open sockets, or those with a tag (an id is one), in the order they connected."""
        return self.ctx.sockets(tag)

    def broadcast(self, message: Sendable, exclude: Sequence[Socket | str] = (), tag: str | None = None) -> None:
        """`send` to every open socket, or every one with a tag, but those in `exclude` (sockets or ids)."""
        self.ctx.broadcast(message, exclude, tag)
