"""One life of a node under test: from its start to its end or its death, with who outside waits for it and who is connected to it.

It lives in a `Process` of the loop where it may be frozen. Then what comes from outside arrives in steps of that process, in the
order in which it was sent, and waits while nothing of it runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import httpx

from stead.clock import sleep
from stead.errors import Ambiguous, Unavailable
from stead.events import Event
from stead.ids import ActorId, Chance
from stead.node import Node, Settings
from stead.runtime.turn import Turn
from stead.storage.contract import ActorRow
from stead.testing.faults import FaultEngine
from stead.testing.link import Link
from stead.testing.loop import Process
from stead.testing.server import SocketServer

_CLOSE_POLL_S = 0.1
_CRASHED = "the process crashed before it answered; read the state before you try again"

T = TypeVar("T")


class Life:
    """`node` from its start on. Without a `process` it runs wherever it is called from, and is never frozen."""

    def __init__(self, node: Node, engine: FaultEngine, process: Process | None = None) -> None:
        self.node = node
        self.engine = engine
        self._process = process
        self._arriving: deque[Callable[[], None]] = deque()
        self._links: list[Link] = []
        self._is_ending = False
        self._replies: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def deliver(self, target: ActorId, event: Event, reply: asyncio.Future[Any]) -> None:
        """Hand an event over, and its answer to `reply`."""
        self._expect(reply)
        if self._process is None:
            self._deliver(target, event, reply)
        else:
            self._arriving.append(partial(self._deliver, target, event, reply))
            asyncio.get_running_loop().call_soon(self._arrive, context=self._process.context())

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work`, which runs inside the process, gives. Who does not wait for it leaves it running."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()
        self._expect(reply)
        task = loop.create_task(work, context=None if self._process is None else self._process.context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(partial(_copy, reply=reply))
        return await reply

    def links(self) -> list[Link]:
        self._links = [link for link in self._links if link.is_open]
        return list(self._links)

    def link(self, client: asyncio.Protocol, chance: Chance, port: int) -> Link:
        """Connect a client. Raises `ConnectionRefusedError` once the process ends."""
        if self._is_ending:
            raise ConnectionRefusedError("nobody listens: the application is not running")
        context = None if self._process is None else self._process.context()
        link = Link(client, SocketServer(self.node.edge), chance, port, context)
        self._links = [*self.links(), link]
        return link

    async def close(self) -> None:
        """End in order, as `stead serve` does."""
        self._is_ending = True
        self.engine.release_commits()
        await self._send_away()
        await self.node.close()
        self._cut_links()
        self._end_connections()
        await self._end_tasks()

    async def die(self) -> None:
        """End at once: who waits for an answer hears that it may have run."""
        self._is_ending = True
        for reply in list(self._replies):
            if not reply.done():
                reply.set_exception(Ambiguous(_CRASHED))
        self._cut_links()
        await self.engine.crash()
        for task in self._tasks:
            task.cancel()
        await self.node.abandon()
        self._end_connections()
        await self._end_tasks()

    def _expect(self, reply: asyncio.Future[Any]) -> None:
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)

    def _arrive(self) -> None:
        self._arriving.popleft()()

    def _deliver(self, target: ActorId, event: Event, reply: asyncio.Future[Any]) -> None:
        if not reply.done():  # else the process died before it came
            answer = self.node.deliver(target, event)
            assert isinstance(answer, asyncio.Future)
            answer.add_done_callback(partial(_copy, reply=reply))

    async def _send_away(self) -> None:
        """Close the sockets as a server that stops does; who cannot be reached is dropped by the edge's own timers."""
        loop, connections = asyncio.get_running_loop(), self.node.edge.connections
        until_s = loop.time() + Settings().shutdown_timeout_s
        for connection in list(connections):
            connection.shutdown()
        while connections and loop.time() < until_s:
            await sleep(_CLOSE_POLL_S)

    def _cut_links(self) -> None:
        for link in self._links:
            link.crash_server()

    def _end_connections(self) -> None:
        """Let go of what the edge holds, its timers above all; the node is over and does nothing with it."""
        for connection in list(self.node.edge.connections):
            connection.connection_lost(None)

    async def _end_tasks(self) -> None:
        while tasks := self._tasks | self.node.edge.tasks:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


Pick = Callable[[], Life]
"""The life that something from outside goes to. Raises `Unavailable` where there is none."""


class Door:
    """The one door as seen from outside: it leads into whichever life is picked."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick

    def forward(self, target: ActorId, event: Event, reply: asyncio.Future[Any], caller: Turn | None) -> None:
        self._pick().deliver(target, event, reply)

    async def serve(self, service: str, event: Event) -> Any:
        life = self._pick()
        return await life.run(_await(life.node.deliver(service, event)))

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        return await self._pick().engine.actors(unit, prefix=prefix, after=after, limit=limit)


class Transport(httpx.AsyncBaseTransport):
    """Requests go straight into the gateway of the life that is picked."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            life = self._pick()
        except Unavailable as exc:
            raise httpx.ConnectError(str(exc)) from exc
        return await life.run(httpx.ASGITransport(life.node.gateway).handle_async_request(request))


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


def _copy(source: asyncio.Future[Any], reply: asyncio.Future[Any]) -> None:
    # Nobody but the end of the process cancels what runs in it: who asked a process that was dying already hears of it, too.
    error = Ambiguous(_CRASHED) if source.cancelled() else source.exception()
    if reply.done():
        return
    if error is None:
        reply.set_result(source.result())
    else:
        reply.set_exception(error)
