"""A greeting from a bare ASGI application: the ceiling of uvicorn."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"5")],
}
BODY = {"type": "http.response.body", "body": b"hello"}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)
