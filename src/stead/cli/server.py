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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

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
from stead.cli.http import HttpServer
from stead.cli.listening import address_of
from stead.clock import Clock, SystemClock
from stead.gateway import OnRequest
from stead.ids import Chance
from stead.node import LoadedApplication, Node, Operating, Settings
from stead.storage.contract import Engine
from stead.storage.sqlite import SqliteEngine

if TYPE_CHECKING:
    from stead.cli.joining import Joining  # which a node alone starts without
    from stead.cluster import ClusterPart

GC_YOUNG_OBJECTS, GC_MIDDLE_ROUNDS, GC_OLD_ROUNDS = 10_000, 20, 50  # Python begins with 700, 10, 10
LINGER_S = 0.3  # that a connection stays open for a request which is on its way to a node that stops
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where this machine reaches what listens everywhere


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
