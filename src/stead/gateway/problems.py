"""Failures as `application/problem+json` (RFC 9457).

What a client is told depends on whose fault it is. Below 500 the message is for the client and always sent. From 500 up it may name
files, actors or values, so it is sent in development only, with the traceback; otherwise the client gets the error's kind and the
request's id, under which the log has the rest.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stead.errors import AppError, Overloaded, SteadError
from stead.redaction import redacted

Describe = Callable[[BaseException], str]
"""An error as its developer wants to see it: where it was raised, the application's own lines first."""

RETRY_AFTER_S = "1"  # what will pass is over before long, or is not to be guessed
_NO_BODY = frozenset({204, 205, 304})


def status_of(error: Exception) -> int:
    """The HTTP status that an error stands for; 500 for one that says nothing or nonsense."""
    if isinstance(error, HTTPException):
        return error.status_code if 200 <= error.status_code <= 599 else 500
    if isinstance(error, SteadError):
        return error.status
    code = getattr(error, "code", None)
    return code if type(code) is int and 400 <= code <= 599 else 500


def is_unexpected(error: Exception) -> bool:
    """Whether nobody gave the error a meaning: a bug, whose traceback belongs in the log."""
    return status_of(error) == 500 and not isinstance(error, HTTPException)


def problem(error: Exception, request_id: str, describe: Describe | None) -> Response:
    """The response to a request that failed with `error`. In development, where `describe` is given, clients are told all."""
    is_development = describe is not None
    status = status_of(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, SteadError) and status == 503:
        headers["retry-after"] = RETRY_AFTER_S
    body: dict[str, Any] = {"type": _type(error), "title": http.client.responses.get(status, "Error"), "status": status}
    detail = _detail(error, status, is_development)
    if detail:
        body["detail"] = detail
    body["request_id"] = request_id
    if describe is not None and is_unexpected(error):
        body["traceback"] = describe(error)
    response = Response(b"" if status in _NO_BODY or status < 400 else _encode(body), status)
    response.raw_headers = _headers(headers, request_id, status, len(response.body))
    return response


def _type(error: Exception) -> str:
    """A name for the kind of error that a client can compare; about:blank says that the status is all."""
    is_ours = isinstance(error, SteadError) and not isinstance(error, AppError) and type(error).__module__.startswith("stead.")
    return f"urn:stead:error:{type(error).__name__}" if is_ours else "about:blank"


def _detail(error: Exception, status: int, is_development: bool) -> Any:
    if isinstance(error, HTTPException):
        return error.detail  # written for the client, whatever the status
    if is_development and is_unexpected(error):
        return f"{type(error).__name__}: {_message(error)}"
    if status < 500 or is_development:
        return _message(error)
    if isinstance(error, SteadError) and not is_unexpected(error):
        return (type(error).__doc__ or "").partition("\n")[0]
    return None


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as exc:  # noqa: BLE001 - an application's own __str__
        return f"{type(error).__name__}, whose __str__ raised {type(exc).__name__}"


def _encode(body: dict[str, Any]) -> bytes:
    try:
        data = msgspec.json.encode(body, enc_hook=str)
    except (UnicodeEncodeError, TypeError, RecursionError):  # a lone surrogate in a message, or a detail of odd shape
        data = msgspec.json.encode({key: ascii(value) if key in {"detail", "traceback"} else value for key, value in body.items()})
    return redacted(data.decode()).encode()


def _headers(headers: Mapping[str, str], request_id: str, status: int, size_bytes: int) -> list[tuple[bytes, bytes]]:
    raw = [
        (str(name).lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in headers.items()
        if str(name).lower() not in {"content-length", "content-type", "x-request-id"}
    ]
    if size_bytes:
        raw.append((b"content-type", b"application/problem+json"))
    if status not in {204, 304}:
        raw.append((b"content-length", b"%d" % size_bytes))
    raw.append((b"x-request-id", request_id.encode()))
    return raw
