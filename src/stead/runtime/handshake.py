"""What a client's handshake says: that it is one, and who connects, by the rules of `partysocket`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from starlette.requests import Request

from stead.api import HTTPException

ID_CHARS_MAX = 256  # of a connection, which is a tag too
_PARAMETER = re.compile(r"(?:^|[?&])_pk=([^?&]*)")  # a client that adds its query to a path with one sends a second "?"


def check_handshake(request: Request) -> None:
    """Raise 426 unless the request asks for a WebSocket."""
    headers = request.headers
    asks = "websocket" in _tokens(headers.get("upgrade", "")) and "upgrade" in _tokens(headers.get("connection", ""))
    if request.method != "GET" or not asks or "sec-websocket-key" not in headers:
        raise HTTPException(426, "this address is for WebSockets; connect with one", {"upgrade": "websocket"})


def offered_subprotocols(request: Request) -> list[str]:
    return [name.strip() for value in request.headers.getlist("sec-websocket-protocol") for name in value.split(",")]


def connection_id(scope: dict[str, Any]) -> str | None:
    """The client's own id, None if it has none. Raises 400 for one that is too long or no text."""
    found = _PARAMETER.search(scope["query_string"].decode("latin-1"))
    if found is None or not found[1]:
        return None
    try:
        id = unquote_plus(found[1], errors="strict")
    except UnicodeDecodeError as exc:
        raise HTTPException(400, "_pk, the connection's id, is not UTF-8 once its percent-encoding is undone") from exc
    if len(id) > ID_CHARS_MAX:
        raise HTTPException(400, f"_pk, the connection's id, has {len(id):,} characters; the limit is {ID_CHARS_MAX}")
    return id


def uri_of(scope: dict[str, Any]) -> str:
    """Path and query, as sent."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")  # type: ignore[no-any-return]


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]
