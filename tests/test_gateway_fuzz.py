"""The gateway under hostile requests: whatever arrives, a whole and proper response leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Scope

from stead.api import Request, Response, Service, StreamingResponse, route
from stead.clock import SystemClock
from stead.errors import Overloaded
from stead.events import Fetch
from stead.gateway import Directory, Gateway, Limits, Operations, Site
from stead.runtime.env import Bindings
from stead.runtime.services import ServiceRunner


class Echo(Service):
    @route("GET", "/")
    async def index(self, request: Request) -> dict[str, Any]:
        return {"query": list(request.query_params.multi_items()), "headers": list(request.headers.items())}

    @route("POST", "/json/{n:int}")
    async def json(self, request: Request, n: int) -> list[Any]:
        return [n, await request.json()]

    @route("PUT", "/{path:path}")
    async def put(self, request: Request, path: str) -> Response:
        body = await request.body()

        async def halves() -> AsyncIterator[bytes]:
            yield body[: len(body) // 2]
            yield body[len(body) // 2 :]

        return StreamingResponse(halves())

    @route("GET", "/{path:path}")
    async def show(self, request: Request, path: str) -> str:
        return path

    @route("DELETE", "/{word}")
    async def fail(self, request: Request, word: str) -> None:
        raise Overloaded(word) if len(word) % 2 else ValueError(word)


RUNNER = ServiceRunner("echo", Echo, Bindings(SystemClock()))
DIRECTORY = Directory([Site("echo", cname="echo"), Site("echo", fqdn="echo.example"), Site("secret", "private", cname="secret")])
MANY = Directory([Site("echo", cname="echo"), Site("other", cname="other")])
LIMITS = Limits(body_bytes_max=2_000, header_bytes_max=2_000, url_bytes_max=200)


def deliver(target: str, event: Fetch) -> Awaitable[Response]:
    assert target in {"echo", "other"}
    return RUNNER.fetch(event)


HOSTS = st.sampled_from([b"localhost", b"echo.localhost:8700", b"ECHO.example", b"secret.localhost", b"[::1]:80"]) | st.binary(
    max_size=40
)
PATHS = st.sampled_from(["/", "/json/1", "/json/x", "/_stead", "/_stead/ready", "/_stead/..", "", "*", "//"]) | st.text(
    max_size=60
).map(lambda text: "/" + text.encode("utf-8", "replace").decode())
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", "BREW"]) | st.text(max_size=8)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"content-length", b"cookie", b"content-type", b"accept"]) | st.binary(max_size=12),
        st.integers(-5, 10**20).map(lambda number: str(number).encode()) | st.binary(max_size=60),
    ),
    max_size=6,
)
BODIES = st.lists(st.binary(max_size=900) | st.sampled_from([b"{", b"[1", b"]", b'"\\ud800"', b"NaN"]), max_size=5)


@settings(max_examples=400)
@given(HOSTS, PATHS, METHODS, HEADERS, BODIES, st.sampled_from(["1.0", "1.1", "2"]), st.booleans(), st.booleans())
def test_every_request_gets_a_proper_response(
    host: bytes, path: str, method: str, headers: list[tuple[bytes, bytes]], body: list[bytes], version: str, many: bool, dev: bool
) -> None:
    """Over hosts, paths, methods, headers and bodies: one beginning, one end, a real status, and problems that are JSON."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        "method": method,
        "path": path,
        "query_string": body[0][:50] if body else b"",
        "headers": [(b"host", host), *headers],
    }
    app = Gateway(deliver, MANY if many else DIRECTORY, LIMITS, Operations(describe=repr if dev else None))
    sent = asyncio.run(_exchange(app, scope, body))
    assert [message["type"] for message in sent[:2]] == ["http.response.start", "http.response.body"]
    assert all(message["type"] == "http.response.body" for message in sent[1:])
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    status, fields = sent[0]["status"], dict(sent[0]["headers"])
    assert status in {200, 204, 400, 404, 405, 413, 414, 431, 500, 503}
    content = b"".join(message.get("body", b"") for message in sent)
    if method == "HEAD":
        assert content == b""
    elif status >= 400:
        assert json.loads(content)["status"] == status
        assert fields[b"content-length"] == b"%d" % len(content)
        assert fields[b"x-request-id"]


async def _exchange(app: Gateway, scope: Scope, body: list[bytes]) -> list[Message]:
    incoming: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in body]
    incoming.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
