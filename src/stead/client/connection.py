"""How a connection is opened and what ends it: the border between `websockets` and this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from stead.errors import Ambiguous, SteadError

MESSAGE_BYTES_MAX = 32 * 1024 * 1024  # of one message that arrives: as large as a room may send
BODY_BYTES_SHOWN = 500  # of a refusal, in its message

Connector = Callable[[str, Mapping[str, str], Sequence[str]], Awaitable[ClientConnection]]
"""Opens a connection to a URL, with headers and subprotocols. `stead.testing` has one that leads into a `TestApp`.

Raises `HandshakeRefused`, or `OSError` (`TimeoutError` is one) where there was no proper answer.
"""


class HandshakeRefused(SteadError):
    """The server answered the handshake with a response; `status_code`, `headers` and `body` are its own."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        said = body[:BODY_BYTES_SHOWN].decode(errors="replace")
        super().__init__(f"the server refused the handshake with {status}" + (f": {said}" if said else ""))
        self.status_code = status
        self.headers = headers
        self.body = body


class Disconnected(Ambiguous):
    """The connection has ended, with `code` and `reason`; what was sent last may or may not have arrived."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the connection has ended with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


async def connect_tcp(url: str, headers: Mapping[str, str], subprotocols: Sequence[str]) -> ClientConnection:
    """The usual connector: over TCP, or TLS for `wss`, through the proxy that the environment names."""
    offered = [Subprotocol(name) for name in subprotocols] or None
    try:
        return await connect(url, additional_headers=headers, subprotocols=offered, max_size=MESSAGE_BYTES_MAX)
    except InvalidHandshake as exc:
        raise opening_failure(exc) from exc


def opening_failure(error: InvalidHandshake) -> HandshakeRefused | ConnectionAbortedError:
    """What a connector raises for a handshake that failed: with the server's response, if it gave one."""
    if not isinstance(error, InvalidStatus):
        return ConnectionAbortedError(f"the handshake failed: {error}")
    response = error.response
    return HandshakeRefused(response.status_code, dict(response.headers.raw_items()), bytes(response.body or b""))
