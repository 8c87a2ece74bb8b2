"""What a request must satisfy before anything runs: one host, sizes within the limits, a path that is text.

The body's size is known from Content-Length, which a server holds the client to; without one it is counted while it streams.
Framing (both Content-Length and Transfer-Encoding, say) is the server's matter.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from stead.codec import MESSAGE_BYTES_MAX
from stead.events import Fetch

_HOST = re.compile(rb"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{0,5})?", re.IGNORECASE).fullmatch
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_REPLACEMENT = "\ufffd"


class Limits(msgspec.Struct, frozen=True):
    """How large a request may be."""

    body_bytes_max: int = MESSAGE_BYTES_MAX  # what fits a message between units fits a request
    header_bytes_max: int = 64 * 1024  # names and values together; browsers keep cookies below a quarter of it
    url_bytes_max: int = 16 * 1024  # path and query; proxies in front usually allow 8 KiB


def admit(scope: Scope, receive: Receive, limits: Limits) -> tuple[bytes, Fetch]:
    """The host, in lower case and without port (empty if HTTP/1.0 sent none), and the event. Raises 400, 413, 414 or 431."""
    host = length = None
    header_bytes = 0
    headers = scope["headers"]
    for name, value in headers:
        header_bytes += len(name) + len(value)
        if name == b"host":
            if host is not None:
                raise HTTPException(400, "the request has more than one Host header")
            host = value
        elif name == b"content-length":
            length = value
    if header_bytes > limits.header_bytes_max:
        raise HTTPException(431, f"the headers have {header_bytes:,} bytes; the limit is {limits.header_bytes_max:,}")
    path = scope["path"]
    raw_path = scope.get("raw_path")
    url_bytes = len(raw_path or path) + len(scope["query_string"])
    if url_bytes > limits.url_bytes_max:
        raise HTTPException(414, f"path and query have {url_bytes:,} bytes; the limit is {limits.url_bytes_max:,}")
    if _REPLACEMENT in path and raw_path is not None:
        _check_text(raw_path)
    receive = _bounded(length, receive, limits.body_bytes_max)
    fetch = Fetch(
        {
            "type": "http",
            "asgi": scope["asgi"],
            "http_version": scope["http_version"],
            "method": scope.get("method", "GET"),  # a handshake's
            "scheme": _SCHEMES[scope.get("scheme", "http")],
            "path": path,
            "raw_path": raw_path,
            "query_string": scope["query_string"],
            "root_path": "",
            "headers": headers,
            "client": scope.get("client"),
            "server": scope.get("server"),
        },
        receive,
    )
    return _host(host, scope["http_version"]), fetch


def _host(value: bytes | None, http_version: str) -> bytes:
    if value is None:
        if http_version == "1.1":
            raise HTTPException(400, "the request has no Host header")
        return b""
    match = _HOST(value)
    if match is None:
        raise HTTPException(400, "the Host header is malformed; it reads name or name:port")
    return match[1].lower().rstrip(b".")


def _check_text(raw_path: bytes) -> None:
    """Servers decode what is not UTF-8 to U+FFFD: two paths, and so two actors, would become one."""
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as exc:
        raise HTTPException(400, "the path is not UTF-8 once its percent-encoding is undone") from exc


def _bounded(length: bytes | None, receive: Receive, body_bytes_max: int) -> Receive:
    """`receive` itself where Content-Length promises a body within the limit, else one that counts."""
    if length is not None and length.isdigit():
        if len(length) > 18 or int(length) > body_bytes_max:
            raise _too_large(body_bytes_max)
        return receive
    received_bytes = 0

    async def counting() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > body_bytes_max:
            raise _too_large(body_bytes_max)
        return message

    return counting


def _too_large(body_bytes_max: int) -> HTTPException:
    return HTTPException(413, f"the body is over the limit of {body_bytes_max:,} bytes")
