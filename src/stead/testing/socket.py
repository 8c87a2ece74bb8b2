"""`app.connect(…)`: a WebSocket into a `TestApp`, whose every fault is at hand.

The client is that of `websockets`, the server the application's real edge, and between them is a `Link`: nothing is replaced but
the network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from stead.client import Disconnected, opening_failure
from stead.errors import Invalid
from stead.testing.link import Link

CLOSE_WAIT_S = 10.0  # for the server's part of the closing handshake


@dataclass(frozen=True)
class Handshake:
    """What a client asks for, and how it behaves: as a browser does, which asks for no sign of life and reads whatever comes."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: Sequence[str] = ()
    ping_s: float | None = None  # how often it makes sure that the server is there
    unread_max: int | None = None  # frames that may wait for `receive`; then it reads no more


class LinkedConnection(ClientConnection):
    """The client's connection of `websockets` over a `Link`."""

    link: Link


async def open_connection(handshake: Handshake, join: Callable[[ClientConnection], Link]) -> LinkedConnection:
    """Shake hands over the link that `join` makes. Raises as a connector of `stead.client` does."""
    protocol = ClientProtocol(
        parse_uri(handshake.url),
        subprotocols=[Subprotocol(name) for name in handshake.subprotocols] or None,
        max_size=None,
    )
    connection = LinkedConnection(
        protocol,
        ping_interval=handshake.ping_s,
        ping_timeout=handshake.ping_s,
        close_timeout=CLOSE_WAIT_S,
        max_queue=handshake.unread_max,
    )
    connection.link = join(connection)
    try:
        await connection.handshake(handshake.headers, user_agent_header="stead.testing")
    except InvalidHandshake as exc:
        connection.transport.abort()
        raise opening_failure(exc) from exc
    except BaseException:
        connection.transport.abort()
        raise
    connection.start_keepalive()
    return connection


def socket_url(address: str, host: str, id: str | None) -> str:
    """The URL of `address`, which is one already or a path at `host`, with the client's `id`."""
    if "://" in address:
        scheme, _, rest = address.partition("://")
        if scheme not in {"ws", "wss", "http", "https"}:
            raise Invalid(f"{address!r} is no address of a socket; give a path, or a URL that begins with ws://")
        url = f"ws://{rest}"
    elif address.startswith("/"):
        url = f"ws://{host}{address}"
    else:
        raise Invalid(f"{address!r} is no path; it begins with a slash")
    if id is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}_pk={quote(id, safe='')}"


class TestSocket:
    """`async with app.connect("/parties/chat/lobby") as socket:`, or `socket = await app.connect(…)`.

    Entering or awaiting it shakes hands: `HandshakeRefused` carries the response of a server that refuses. Leaving the block closes
    it. The connection's faults are methods of it; time is virtual.
    """

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, open: Callable[[], Awaitable[LinkedConnection]]) -> None:
        self._open = open
        self._connection: LinkedConnection

    def __await__(self) -> Generator[Any, None, Self]:
        return self._shake_hands().__await__()

    async def __aenter__(self) -> Self:
        return await self._shake_hands()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            await self.close()
        else:
            self._connection.transport.abort()

    async def _shake_hands(self) -> Self:
        self._connection = await self._open()
        return self

    async def send(self, message: str | bytes | dict[str, Any] | list[Any]) -> None:
        """Send text, bytes, or a dict or list as JSON text. Waits while the network takes no more. Raises `Disconnected`."""
        data = msgspec.json.encode(message).decode() if isinstance(message, dict | list) else message
        try:
            await self._connection.send(data)
        except ConnectionClosed as exc:
            raise self._disconnected() from exc

    async def receive(self) -> str | bytes:
        """Wait for the next message. Raises `Disconnected` once the connection has ended and every message was taken."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as exc:
            raise self._disconnected() from exc

    async def receive_json(self) -> Any:
        """Wait for the next message and decode it."""
        return msgspec.json.decode(await self.receive())

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages, until the connection ends."""
        while True:
            try:
                yield await self.receive()
            except Disconnected:
                return

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Shake hands for the end, for at most CLOSE_WAIT_S seconds. Harmless when closed."""
        await self._connection.close(code, reason)

    async def wait_closed(self) -> None:
        """Return once the connection has ended, whoever ended it."""
        await self._connection.wait_closed()

    @property
    def is_open(self) -> bool:
        """Whether the client has not yet heard or said anything of an end."""
        return self._connection.close_code is None

    @property
    def close_code(self) -> int | None:
        """With what code it ended: the server's, or 1006 if it went without a goodbye. None while it is open."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The server's reason, None while the connection is open."""
        return self._connection.close_reason

    @property
    def subprotocol(self) -> str | None:
        """The one that the server chose."""
        return self._connection.subprotocol

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The headers of the server's part of the handshake."""
        assert self._connection.response is not None
        return self._connection.response.headers

    # -- the faults of the network -------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Reset the connection now; what is under way is lost."""
        self._connection.link.drop()

    def half_open(self) -> None:
        """Let the other side vanish: nothing goes through any more, and nobody is told."""
        self._connection.link.half_open()

    def delay(self, up_s: float = 0.0, down_s: float = 0.0) -> None:
        """Make what is sent from now on take that many seconds: `up_s` to the server, `down_s` to the client."""
        self._connection.link.delay(up_s, down_s)

    def pause_reading(self) -> None:
        """Be a slow client: read nothing more, so that what the server sends piles up there."""
        self._connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._connection.transport.resume_reading()

    def _disconnected(self) -> Disconnected:
        connection = self._connection
        assert connection.close_code is not None
        return Disconnected(connection.close_code, connection.close_reason or "")
