"""The server in front of the edge: it reads the head of one request and hands the transport over, as the real one does."""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import unquote

import httptools

from stead.gateway import Edge

HEADER_S_MAX = 30.0  # from a connection's beginning to the end of its request's head, as the real server has it


class SocketServer(asyncio.Protocol):
    """The first protocol of a connection on which a WebSocket is to be opened."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HEADER_S_MAX, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._hand_over(data[exc.args[0] :])

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def _hand_over(self, early: bytes) -> None:
        self._timer.cancel()
        raw_path, _, query = self._url.partition(b"?")
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._parser.get_http_version(),
            "scheme": "ws",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self._transport.get_extra_info("peername"),
            "server": self._transport.get_extra_info("sockname"),
        }
        self._edge.upgrade(self._transport, scope, self._parser.get_method().decode("ascii"), early)
