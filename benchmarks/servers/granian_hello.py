"""A greeting from a bare RSGI application: the ceiling of granian."""

from __future__ import annotations

from granian.rsgi import HTTPProtocol, Scope

HEADERS = [("content-type", "text/plain; charset=utf-8")]


async def app(scope: Scope, protocol: HTTPProtocol) -> None:
    protocol.response_str(200, HEADERS, "hello")
