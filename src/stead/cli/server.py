"""A node behind an HTTP server, from ready to the end.

The order of the end is what keeps promises: the server stops accepting and lets requests finish, then the node finishes turns and
commits, then the engine lets go of its files. A second signal skips all that; what was acknowledged is durable already.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stead.admin import (
    TOKEN_BYTES,
    AdminApi,
    Alone,
    EngineOperator,
    NodesHere,
    NodeUnits,
    ServerAddress,
    remove_address,
    write_address,
)
from stead.cli.exchange import Exchange
from stead.cli.listening import address_of
from stead.clock import Clock, SystemClock
from stead.gateway import Edge, OnRequest
from stead.ids import Chance
from stead.node import LoadedApplication, Node, Operating, Settings
from stead.storage.contract import Engine
from stead.storage.sqlite import SqliteEngine

if TYPE_CHECKING:
    from stead.cli.joining import Joining  # which a node alone starts without
    from stead.cluster import ClusterPart

GC_YOUNG_OBJECTS, GC_MIDDLE_ROUNDS, GC_OLD_ROUNDS = 10_000, 20, 50  # Python begins with 700, 10, 10
HEADER_BYTES_MAX = 128 * 1024  # of one request, and one read more; the gateway has a lower limit and a better answer
HEADER_S_MAX = (
    30.0  # from a connection's or a header's first byte to the header's end: who is slower holds a connection for nothing
)
LINGER_S = 0.3  # that a connection stays open for a request which is on its way to a node that stops
KEEP_ALIVE_S = 75  # longer than the usual proxy keeps an idle connection, so that it never meets one that just closed
_SENDS_RAISE = "2.4"  # the version of ASGI in which `send` tells that the client left, and nobody has to listen for it
_LISTENED = frozenset({"GET", "HEAD"})  # methods whose clients an answer may listen for, since no body comes between
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where this machine reaches what listens everywhere


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


@dataclass(frozen=True)
class Serving:
    """A server to be run.

    `environ` gives the manifest's variables their values, `on_request` is told of every request that was answered. With `joining`
    the node is one of several. A `token` of the operator's API comes from who tells operators where the server is; without one
    that is done here.
    """

    application: LoadedApplication
    settings: Settings
    environ: Mapping[str, str]
    on_request: OnRequest | None = None
    is_development: bool = False
    joining: Joining | None = None
    token: str = ""

    async def run(self, listener: socket.socket, on_ready: Callable[[str], None], lifeline: int | None = None) -> None:
        """Serve until a signal, or until the other end of the pipe `lifeline` closes. `on_ready` is told the address."""
        clock, chance = SystemClock(), Chance()
        nodes: NodesHere = Alone()
        if self.joining is None:
            engine: Engine = SqliteEngine.open(self.settings.data, clock)
            cluster = None
        else:
            ends = asyncio.Event()
            with _stopping(ends.set, lifeline):
                opened = await self.joining.open_engine(self.settings.data, clock, chance, ends)
            if opened is None:
                return
            shared = engine = opened
        try:
            if self.joining is not None:
                url = self._own_address(listener)
                cluster = await self.joining.take_part(shared, self.application, url, clock, chance)
                nodes = self.joining.nodes(shared, cluster)
            await self._serve(listener, on_ready, lifeline, Machine(engine, cluster, nodes, clock, chance))
        finally:
            await engine.close()

    async def _serve(
        self, listener: socket.socket, on_ready: Callable[[str], None], lifeline: int | None, machine: Machine
    ) -> None:
        settings, token = self.settings, self.token or machine.chance.hex(TOKEN_BYTES)

        def admin(node: Node) -> ASGIApp:
            operator = EngineOperator(machine.engine, machine.clock, node.evict, machine.nodes.bring)
            units, anywhere = NodeUnits(node), settings.admin_from_anywhere
            return AdminApi(operator, units, node.stats, token, anywhere, settings.data, machine.nodes)

        def ready() -> None:
            if not self.token:
                write_address(settings.data, ServerAddress(os.getpid(), self._own_address(listener), token))
            on_ready(address_of(listener, settings.host))

        worker = f"-{self.joining.worker}" if self.joining is not None and self.token else ""
        operating = Operating(
            self.environ,
            admin,
            self.on_request,
            self.is_development,
            cache=settings.data / f"cache{worker}.sqlite",
            cluster=machine.cluster,
        )
        node = Node(self.application, machine.engine, settings, machine.clock, machine.chance, operating)
        linger_s = 0.0 if self.joining is None else LINGER_S  # there are others to go to
        server = HttpServer(node.gateway, node.edge, settings.shutdown_timeout_s, ready, linger_s)
        _spare_what_stays()
        with _stopping(server.stop, lifeline):
            try:
                await node.start()
                await server.serve(sockets=[listener])
            finally:
                if not self.token:
                    remove_address(settings.data)
                await node.close()

    def _own_address(self, listener: socket.socket) -> str:
        """Where this machine reaches the server."""
        return address_of(listener, own_host(self.settings.host))


@dataclass(frozen=True)
class Machine:
    """What a node is made of beside its application."""

    engine: Engine
    cluster: ClusterPart | None
    nodes: NodesHere
    clock: Clock
    chance: Chance


def own_host(host: str) -> str:
    """Where this machine reaches what listens at `host`."""
    return _WILDCARDS.get(host, host)


def _spare_what_stays() -> None:
    """Keep modules, classes and settings out of garbage collection, and collect less often: requests leave few cycles behind, and
    a full collection that walks every resident actor is the longest pause there is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_MIDDLE_ROUNDS, GC_OLD_ROUNDS)


@contextmanager
def _stopping(stop: Callable[[], None], lifeline: int | None) -> Iterator[None]:
    """Call `stop` at the first signal; leave the process at once at the second, even where the loop is blocked.

    A process with a lifeline leaves SIGINT to its parent, which gets it from the terminal as well.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop)

    def on_lifeline() -> None:
        loop.remove_reader(lifeline_end)
        stop()

    numbers = [signal.SIGTERM] if lifeline is not None else [signal.SIGINT, signal.SIGTERM]
    previous: dict[int, Any] = {number: signal.signal(number, on_signal) for number in numbers}
    lifeline_end = -1 if lifeline is None else lifeline
    if lifeline is not None:
        loop.add_reader(lifeline_end, on_lifeline)
    try:
        yield
    finally:
        if lifeline is not None:
            loop.remove_reader(lifeline_end)
        for number, handler in previous.items():
            signal.signal(number, handler)
