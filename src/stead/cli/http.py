"""HTTP on a port: uvicorn with bounds of our own, an end that waits for requests on their way, and sockets that go to the edge."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stead.cli.exchange import Exchange
from stead.gateway import Edge

HEADER_BYTES_MAX = 128 * 1024  # of one request, and one read more; the gateway has a lower limit and a better answer
HEADER_S_MAX = 30.0  # from the first byte of it, or of the connection, to its end: who is slower holds a connection for nothing
KEEP_ALIVE_S = 75  # longer than the usual proxy keeps an idle connection, so that it never meets one that just closed
_SENDS_RAISE = "2.4"  # the version of ASGI in which `send` tells that the client left, and nobody has to listen for it
_LISTENED = frozenset({"GET", "HEAD"})  # methods whose clients an answer may listen for, since no body comes between


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which refuses a header without end before it fills the memory, hangs up on one that does not come, and
    hands a WebSocket's handshake over to the edge. Its exchanges are our own, and one timer a connection tells how long it is idle.
    When the server stops, an idle connection has `linger_s` for a request that is on its way; the answer says that it is the last.
    """

    _head_bytes = 0
    _in_head = False
    _data = b""
    _head_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since_s = 0.0
    _is_ending = False

    def __init__(self, edge: Edge, linger_s: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._edge = edge
        self._linger_s = linger_s
        self._waiting: deque[Exchange] = deque()  # pipelined; reading is paused while there are any
        self.ws_protocol_class = asyncio.Protocol  # any will do: with one, uvicorn calls handle_websocket_upgrade

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEADER_S_MAX, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_idle_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        scope, version = cast(Scope, self.scope), self.parser.get_http_version()
        scope["method"], scope["http_version"] = self.parser.get_method().decode("ascii"), version
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if scope["method"] not in _LISTENED:
            scope["asgi"]["spec_version"] = _SENDS_RAISE
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        exchange = Exchange(scope, self.transport, self.flow, self.server_state.default_headers, self.on_response_complete)
        exchange.keep_alive = version != "1.0" and self.parser.should_keep_alive() and not self._is_ending
        if self.expect_100_continue:
            exchange.expect_continue()
        self.cycle = exchange  # type: ignore[assignment] # it stands in for uvicorn's
        if before is None or before.response_complete:
            self._start(exchange)
        else:
            self.flow.pause_reading()
            self._waiting.append(exchange)

    def on_response_complete(self) -> None:
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._waiting:
            self._start(self._waiting.popleft())
            return
        self._idle_since_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(KEEP_ALIVE_S, self._check_idle)

    def shutdown(self) -> None:
        self._is_ending = True
        if self._linger_s and self._is_idle:
            self.loop.call_later(self._linger_s, self._close_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def _start(self, exchange: Exchange) -> None:
        exchange.task = self.loop.create_task(exchange.run(self.app, self._end))
        self.tasks.add(exchange.task)

    def _end(self, exchange: Exchange) -> None:
        assert exchange.task is not None
        self.tasks.discard(exchange.task)

    def _check_idle(self) -> None:
        self._idle_timer = None
        if self._in_head or not self.cycle.response_complete:
            return  # its next answer sets the timer again
        left_s = self._idle_since_s + KEEP_ALIVE_S - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._check_idle)
        else:
            self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn has a timer for each answer; here there is none to unset."""

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > HEADER_BYTES_MAX:
            self.send_400_response(f"The request's header is over {HEADER_BYTES_MAX} bytes.")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_S_MAX, self.transport.close)

    def handle_websocket_upgrade(self) -> None:
        self.connections.discard(self)
        self._stop_idle_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # the handshake came before the answer to the request before it
            return
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self.send_400_response("The request's address is malformed.")
            return
        scope: dict[str, Any] = {
            **self.scope,
            "type": "websocket",
            "scheme": "wss" if self.scheme == "https" else "ws",
            "path": unquote(url.path.decode("ascii")),
            "raw_path": url.path,
            "query_string": url.query or b"",
        }
        self._edge.upgrade(self.transport, scope, scope.pop("method"), self._behind_head())

    def _behind_head(self) -> bytes:
        """What came with the handshake and is no part of it: uvicorn would lose it."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        return self._data[upgrade.args[0] :]

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer(uvicorn.Server):
    """uvicorn, which tells when it answers and leaves signals to its owner."""

    def __init__(
        self, app: ASGIApp, edge: Edge, shutdown_timeout_s: int, on_ready: Callable[[], None], linger_s: float = 0.0
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(BoundedHttp, edge, linger_s),  # type: ignore[arg-type] # uvicorn only calls it
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=shutdown_timeout_s,
            )
        )
        self.server_state.connections, self.server_state.tasks = edge.connections, edge.tasks  # all end together
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True
