"""The opening handshake of RFC 6455, section 4: what a request must hold, and the answers to it as bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import re
from collections.abc import Iterable
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.types import Scope

from stead.errors import Invalid

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch

Headers = Iterable[tuple[bytes, bytes]]


class Handshake(NamedTuple):
    """A valid request: what answers its key, and the subprotocols that the client offers, its favourite first."""

    accept: bytes
    subprotocols: list[str]


def check_handshake(scope: Scope, method: str) -> Handshake:
    """What a server needs to know of a request that asks for a WebSocket. Raises `HTTPException` for one that cannot have it."""
    if method != "GET":
        raise HTTPException(405, f"a WebSocket is opened with GET, not {method}", {"allow": "GET"})
    if scope["http_version"] != "1.1":
        raise HTTPException(505, f"a WebSocket is opened with HTTP/1.1, not HTTP/{scope['http_version']}")
    headers = scope["headers"]
    versions = _values(headers, b"sec-websocket-version")
    if versions != [VERSION.encode()]:
        raise HTTPException(
            426, f"only version {VERSION} of the WebSocket protocol is spoken here", {"sec-websocket-version": VERSION}
        )
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HTTPException(400, "the handshake needs one Sec-WebSocket-Key: 16 bytes in base64")
    accept = base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())
    return Handshake(accept, _subprotocols(headers))


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value.strip() for name, value in headers if name == wanted]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _subprotocols(headers: Headers) -> list[str]:
    offered = [token.strip() for value in _values(headers, b"sec-websocket-protocol") for token in value.split(b",")]
    if not all(map(_is_token, offered)) or len(set(offered)) < len(offered):
        raise HTTPException(400, "Sec-WebSocket-Protocol is malformed; it lists names that differ, divided by commas")
    return [token.decode() for token in offered]


def encode_switch(handshake: Handshake, subprotocol: str | None, headers: Headers = ()) -> bytes:
    """The answer 101. A subprotocol that the client did not offer is left out: it would refuse the connection."""
    own = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", handshake.accept)]
    if subprotocol in handshake.subprotocols:
        own.append((b"sec-websocket-protocol", subprotocol.encode()))
    return encode_head(101, [*own, *headers])


def encode_head(status: int, headers: Headers) -> bytes:
    """The head of a response. Raises `Invalid` for a header that would end before its end."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, http.client.responses.get(status, "").encode())]
    for name, value in headers:
        if not _is_token(name) or not _is_value(value):
            raise Invalid(f"{name!r}: {value!r} is no HTTP header")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join([*lines, b"\r\n"])
