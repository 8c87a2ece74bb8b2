"""Requests as handlers get them, and what handlers return as responses.

A value that a handler returns becomes a response with its whole body at once, so that a gateway may send it without running any
code of ours or the user's. JSON is written by msgspec: datetimes, Decimals, UUIDs, enums, dataclasses, Structs and pydantic models
inside a dict or list need no help. NaN and infinities, which JSON lacks, become null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
from starlette.types import Message, Receive, Scope

from stead.api import HTTPException, Request, Response, ResponseLike
from stead.codec import MESSAGE_BYTES_MAX
from stead.errors import Ambiguous, Invalid
from stead.events import Fetch

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_BYTES = (b"content-type", b"application/octet-stream")
_ERROR_CHARS_MAX = 200  # of a parser's message: it may quote the body


class InvalidResponse(Invalid):
    """A handler returned what cannot become a response: correct the handler."""

    status: ClassVar[int] = 500  # the client did nothing wrong


class WholeResponse(Response):
    """A response of given bytes, without the general case that Starlette's constructor goes through."""

    def __init__(self, body: bytes, status: int, raw_headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = raw_headers


def to_response(value: ResponseLike, where: str) -> Response:
    """What a handler returned, as a response. Raises `InvalidResponse` naming the handler `where` for what cannot become one."""
    kind = type(value)
    if kind is str:
        body, content_type = _text(value, where), _TEXT
    elif kind is dict or kind is list:
        body, content_type = _json(value, where), _JSON
    elif isinstance(value, Response):
        return value
    elif value is None:
        return WholeResponse(b"", 204, [])
    elif kind is bytes:
        body, content_type = value, _BYTES  # type: ignore[assignment]
    else:
        body, content_type = _other(value, where)
    return WholeResponse(body, 200, [(b"content-length", b"%d" % len(body)), content_type])


def _other(value: Any, where: str) -> tuple[bytes, tuple[bytes, bytes]]:
    """Subclasses of the types that become a response; anything else is refused."""
    if isinstance(value, str):
        return _text(value, where), _TEXT
    if isinstance(value, dict | list):
        return _json(value, where), _JSON
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), _BYTES
    raise InvalidResponse(
        f"{where} returned a value of type {type(value).__qualname__}; return a Response, dict, list, str, bytes or None"
    )


def _text(value: Any, where: str) -> bytes:
    try:
        return value.encode()  # type: ignore[no-any-return]
    except UnicodeEncodeError as exc:
        raise InvalidResponse(f"{where} returned text that is not valid Unicode (it holds a lone surrogate)") from exc


def _model_fields(value: Any) -> Any:
    """msgspec's hook for types it does not know: pydantic models."""
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise TypeError(f"a {type(value).__qualname__} cannot be written as JSON")
    return dump(value)


encode_json: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_model_fields).encode
"""A value as JSON. Raises one of `NOT_JSON`."""
NOT_JSON = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def _json(value: Any, where: str) -> bytes:
    try:
        return encode_json(value)
    except NOT_JSON as exc:
        raise InvalidResponse(f"{where} returned what cannot be written as JSON: {exc}") from exc


class HandlerRequest(Request):
    """Starlette's request, whose `json()` answers a malformed body with 400 and the position; it knows its route's values."""

    _params: Mapping[str, Any]

    @property
    def path_params(self) -> dict[str, Any]:
        return dict(self._params)

    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body)
        except json.JSONDecodeError as exc:
            where = f"line {exc.lineno} column {exc.colno} (position {exc.pos})"
            problem = exc.msg if body else "the body is empty"
            raise HTTPException(400, f"malformed JSON at {where}: {problem}") from exc
        except (ValueError, RecursionError) as exc:  # not UTF-8, an endless number, or nested without end
            raise HTTPException(400, f"malformed JSON: {str(exc)[:_ERROR_CHARS_MAX]}") from exc


_NO_PARAMS: Mapping[str, Any] = {}


def make_request(scope: Scope, receive: Receive, params: Mapping[str, Any] = _NO_PARAMS) -> Request:
    """The request that a handler is given. `params` are the values of its route."""
    request = HandlerRequest(scope, receive)
    request._params = params
    return request


def is_whole(response: Response) -> bool:
    """Whether the response is bytes already: to send it runs no code of the application's."""
    return type(response).__call__ is Response.__call__ and response.background is None


async def collect(response: Response, event: Fetch) -> Response:
    """Any response, streaming or an application's, as one with its body in memory: for a caller that is no socket.

    Raises `Invalid` when the body is over `MESSAGE_BYTES_MAX`, and `Ambiguous` when it ended before it was whole.
    """
    if is_whole(response):
        return response
    body = _Body()
    # From 2.4 on a server tells of a disconnect by raising in send(), so the response does not listen on receive() for it.
    await response({**event.scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, event.receive, body.send)
    return body.response(event.scope["method"] == "HEAD")


class _Body:
    """An ASGI `send` that keeps what it is given."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._is_whole = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            chunk = message.get("body", b"")
            self._size_bytes += len(chunk)
            if self._size_bytes > MESSAGE_BYTES_MAX:
                raise Invalid(f"the response has more than {MESSAGE_BYTES_MAX:,} bytes, the limit between units; fetch it in parts")
            self._chunks.append(bytes(chunk))
            self._is_whole = not message.get("more_body", False)

    def response(self, is_head: bool) -> Response:
        if not self._is_whole:
            raise Ambiguous("the response ended before it was whole")
        body = b"".join(self._chunks)
        headers = [(name.lower(), value) for name, value in self._headers]
        if not is_head and self._status not in (204, 304):
            headers = [pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding")]
            headers.append((b"content-length", b"%d" % len(body)))
        return WholeResponse(body, self._status, headers)
