"""Requests that are answered once: the routes marked `idempotent`.

    client ─► service ─► Answer, the key's actor ─► service ─► the handler ─► calls with derived keys

For each service and `Idempotency-Key` there is an actor that keeps the response for a day. The handler runs inside its turn, so
repeats that come meanwhile wait in its mailbox; and if the process dies, nothing is kept and a repeat runs the handler again, whose
calls carry the same keys as before (`derived.py`): what they did is not done twice. Signals of a handler are such calls, too.

Not kept: errors of 500 and above, and errors that are no `HTTPException`. They may be repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from starlette.types import Message

from stead.api import Actor, AlarmInfo, HTTPException, Namespace, Request, Response
from stead.codec import MESSAGE_BYTES_MAX
from stead.errors import Invalid
from stead.events import Fetch
from stead.ids import binding_name
from stead.runtime.receipts import check_idempotency_key
from stead.runtime.responses import InvalidResponse, WholeResponse, make_request

KEPT_FOR = timedelta(hours=24)
ANSWER_BYTES_MAX = 1024 * 1024  # of a body that is kept
_SCOPE_BYTES = 64 * 1024  # of a message between units that a request's head may take
HEADER = "idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")
_PASSING = frozenset({b"connection", b"content-length", b"date", b"keep-alive", b"server", b"transfer-encoding"})  # of one transfer


class Kept(msgspec.Struct, frozen=True):
    """A response as it is stored. With `error` it is an `HTTPException` with these headers."""

    request: bytes  # a digest of what it answers
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    error: tuple[str, dict[str, str]] | None = None
    is_repeat: bool = False

    def response(self) -> Response:
        """The response, or the error raised."""
        replayed = [REPLAYED] if self.is_repeat else []
        if self.error is not None:
            detail, headers = self.error
            raise HTTPException(self.status, detail, {**headers, **{name.decode(): value.decode() for name, value in replayed}})
        length = [] if self.status in {204, 304} else [(b"content-length", b"%d" % len(self.body))]
        return WholeResponse(self.body, self.status, [*length, *self.headers, *replayed])


class Answer(Actor):
    """What one service answered to one key."""

    turn_limit_s = 300.0  # of the handler, which runs in its turn
    mailbox_events_max = 100  # repeats that wait for the first

    async def answer(self, service: str, key: str, scope: dict[str, Any], body: bytes) -> Kept:
        """The response to a request: that of the first one with this key, if it is the same request."""
        digest = _digest(scope, body)
        kept = await self.storage.get("answer", type=Kept)
        if kept is None:
            kept = await self._ask(service, key, make_request(scope, _whole(body)), digest)
            if kept.status < 500:
                await self.storage.put("answer", kept)
                await self.storage.set_alarm(KEPT_FOR)
            return kept
        if kept.request != digest:
            raise HTTPException(422, "this Idempotency-Key was used for another request; every new request needs a new one")
        return msgspec.structs.replace(kept, is_repeat=True)

    async def alarm(self, alarm: AlarmInfo) -> None:
        await self.storage.delete_all()

    async def _ask(self, service: str, key: str, request: Request, digest: bytes) -> Kept:
        try:
            response = await getattr(self.env, binding_name(service)).with_idempotency_key(key).fetch(request)
        except HTTPException as error:
            return Kept(digest, error.status_code, [], b"", (error.detail, dict(error.headers or {})))
        body = bytes(response.body)
        if len(body) > ANSWER_BYTES_MAX:
            raise InvalidResponse(f"the response of an idempotent route has {len(body):,} bytes; {ANSWER_BYTES_MAX:,} can be kept")
        headers = [(name, value) for name, value in response.raw_headers if name not in _PASSING]
        return Kept(digest, response.status_code, headers, body)


def idempotency_key(scope: Mapping[str, Any]) -> str | None:
    """The key of a request. Raises 400 for what is none."""
    values = [value for name, value in scope["headers"] if name == HEADER.encode()]
    if not values:
        return None
    try:
        if len(values) > 1:
            raise Invalid("the header is there more than once")
        return check_idempotency_key(values[0].decode())
    except (Invalid, UnicodeDecodeError) as exc:
        raise HTTPException(400, f"Idempotency-Key: {exc}") from exc


async def answer_once(answers: Namespace[Answer], service: str, key: str, event: Fetch) -> Response:
    """The response to a request with a key."""
    body = await make_request(event.scope, event.receive).body()
    if len(body) > MESSAGE_BYTES_MAX - _SCOPE_BYTES:
        raise HTTPException(413, "the body of a request with an Idempotency-Key must fit a message between units")
    name = hashlib.sha256(f"{service}\0{key}".encode()).hexdigest()  # a key is a client's, and may be longer than a name
    return (await answers.get(f"{service}/{name}").answer(service, key, event.scope, body)).response()


def _digest(scope: Mapping[str, Any], body: bytes) -> bytes:
    """Of what makes two requests the same one: method, target, who asks, and the body."""
    callers = [value for name, value in scope["headers"] if name == b"authorization"]
    parts = [scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), b"\0".join(callers), body]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _whole(body: bytes) -> Any:
    async def receive() -> Message:  # noqa: RUF029 - ASGI's receive is asynchronous
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
