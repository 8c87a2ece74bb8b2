"""`TestApp`: a whole application in memory, with the faults of the world at hand.

It is the real node (runtime, gateway, bindings) over a `FaultEngine`, networks in memory and the virtual clock of the running
`SeededLoop`. `env`, `client` and `connect` are the world outside: they outlive a crash, as a browser outlives a server, and whoever
was waiting for an answer when it came gets `Ambiguous`; the client of a socket sees 1006.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection

from stead.api import Actor, Env, Service
from stead.bindings import BLOBS, Binding
from stead.clock import sleep
from stead.errors import Ambiguous, Invalid
from stead.events import Event
from stead.ids import ActorId, Chance
from stead.manifest import Application, Visibility, schema
from stead.node import LoadedApplication, Node, Operating, Settings, load_application
from stead.node.variables import application_variables
from stead.runtime.classes import ActorClass
from stead.runtime.env import Bindings, bind_units
from stead.runtime.stubs import ActorNamespace, Stub
from stead.runtime.turn import Turn
from stead.storage.contract import ActorRow
from stead.storage.memory import MemoryEngine, MemoryStore
from stead.testing.blobs import MemoryBlobs
from stead.testing.faults import FaultEngine, HeldCommits
from stead.testing.link import Link
from stead.testing.loop import SeededLoop, VirtualClock, current_clock
from stead.testing.server import SocketServer
from stead.testing.socket import Handshake, LinkedConnection, TestSocket, open_connection, socket_url

HOST = "localhost"
BASE_URL = f"http://{HOST}"
PING_S, UNREAD_MAX = 20.0, 16  # of a client of `dial`: as `websockets` has them
_FIRST_PORT = 50_000  # of the clients
_NETWORK, _BLOBS = 1 << 32, 1 << 33  # what sets the chances of the network and of blobs apart from the others of a seed
EVICT_WAIT_S = 120.0  # how long an actor may stay busy: twice a turn's limit, and then some
_EVICT_POLL_S, _CLOSE_POLL_S = 0.001, 0.1
_CRASHED = "the process crashed before it answered; read the state before you try again"

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What a `TestApp` runs in: the variables its manifest asks for, and how slow its disk is."""

    environ: Mapping[str, str] | None = None
    commit_s: float = 0.0  # a commit takes up to this much virtual time


class TestApp:
    """`async with TestApp("stead.manifest", seed=7) as app:`; the path is that of a manifest or of its directory.

    It must run on a `SeededLoop` (`stead.testing.run`, or the fixtures of the pytest plugin). Without a seed it takes the loop's.
    """

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, application: str | Path | LoadedApplication, *, seed: int | None = None, world: World = World()) -> None:
        self.application = application if isinstance(application, LoadedApplication) else load_application(Path(application))
        self._seed = seed
        self._world = world
        self.store = MemoryStore()  # what is on the disk
        self.blobs: MemoryBlobs  # and the bodies of objects

    @classmethod
    def of(
        cls,
        *,
        actors: Mapping[str, type[Actor]] | None = None,
        services: Mapping[str, type[Service] | ASGIApp] | None = None,
        bindings: Mapping[str, Binding] | None = None,
        seed: int | None = None,
        world: World = World(),
    ) -> Self:
        """An application without a manifest, from its classes by the names of their units. Every unit is public.

        `bindings` are data services, as `stead.bindings` makes them.
        """
        return cls(_application(actors or {}, services or {}, bindings or {}), seed=seed, world=world)

    async def __aenter__(self) -> Self:
        self.clock: VirtualClock = current_clock()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        self.seed = loop.seed if self._seed is None else self._seed
        self._chance, self._disk_chance = Chance(self.seed), Chance(~self.seed)
        self._network_chance = Chance(self.seed + _NETWORK)
        self.blobs = MemoryBlobs(Chance(self.seed + _BLOBS))
        self._ports = itertools.count(_FIRST_PORT)
        self._process = await self._start()
        self.env: Env = self._bindings()
        self.client = httpx.AsyncClient(transport=_Transport(self), base_url=BASE_URL)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop as `stead serve` does; at once if the block raised."""
        if isinstance(error, GeneratorExit):  # the loop has ended before the block did: nothing runs any more
            return
        await self.client.aclose()
        if error is not None:
            await self._process.die()
        else:
            await self._process.close()

    def connect(
        self,
        address: str,
        *,
        host: str = HOST,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> TestSocket:
        """A WebSocket to a path at `host`, or to a URL: `async with app.connect("/parties/chat/lobby", id="ann") as socket:`.

        It goes through the application's edge and gateway, over a network whose faults are the socket's methods.
        """
        handshake = Handshake(socket_url(address, host, id), headers or {}, subprotocols)
        return TestSocket(partial(self._open, handshake))

    async def dial(self, url: str, headers: Mapping[str, str], subprotocols: Sequence[str]) -> ClientConnection:
        """A connector for `stead.client`, which leads into this application. The newest of `links` is its network."""
        return await self._open(Handshake(url, headers, subprotocols, PING_S, UNREAD_MAX))

    @property
    def links(self) -> list[Link]:
        """The networks of the sockets that are open, in the order they came."""
        return self._process.links()

    async def _open(self, handshake: Handshake) -> LinkedConnection:
        return await open_connection(handshake, lambda client: self._process.link(client, self._network_chance, next(self._ports)))

    async def evict(self, actor: Stub | ActorId) -> None:
        """Drop an actor from memory as soon as it is idle. Raises `Invalid` if it never is."""
        actor_id = actor.id if isinstance(actor, Stub) else actor
        until_s = self.clock.elapsed_s() + EVICT_WAIT_S
        while not self._process.node.evict(actor_id):
            if self.clock.elapsed_s() > until_s:
                raise Invalid(f"{actor_id} is still busy after {EVICT_WAIT_S:g} s; are its commits held, or does it spawn work?")
            await sleep(_EVICT_POLL_S)

    async def crash(self) -> None:
        """Lose everything that is not committed, and start again from what is.

        Who waits for an answer gets `Ambiguous`. A commit under way is lost or durable, as the seed decides.
        """
        await self._process.die()
        self._process = await self._start()

    def hold_commits(self) -> HeldCommits:
        """Make commits wait until the end of the `with` block, or until `release`. A crash ends it too."""
        return self._process.engine.hold_commits()

    def fail_next_commit(self) -> None:
        """Make the next commit fail as on a full disk; what shares its flush fails with it."""
        self._process.engine.fail_next_commit()

    def stats(self) -> dict[str, int]:
        """Counts since the start or the last crash, and what is in memory now."""
        return self._process.node.stats()

    async def _start(self) -> _Process:
        engine = FaultEngine(MemoryEngine(self.store), self._disk_chance, self._world.commit_s)
        operating = Operating(environ=self._world.environ, blobs=self.blobs)
        node = Node(self.application, engine, Settings(), self.clock, self._chance, operating)
        await node.start()
        return _Process(node, engine)

    def _bindings(self) -> Bindings:
        env, door = Bindings(self.clock), _Door(self)
        env.bind(BLOBS, self.blobs)
        for name, value in application_variables(self.application.manifest, self._world.environ or {}).items():
            env.bind(name, value)
        classes = {unit: ActorClass(unit, cls) for unit, cls in self.application.every_actor.items()}
        namespace = partial(ActorNamespace, door=door, registry=door, chance=self._chance)
        bind_units(env, classes, self.application.every_service, namespace, door, self.application.clients)
        return env


class _Process:
    """One life of the node, who outside waits for its answers, and who is connected to it."""

    def __init__(self, node: Node, engine: FaultEngine) -> None:
        self.node = node
        self.engine = engine
        self._links: list[Link] = []
        self._is_ending = False
        self._replies: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def deliver(self, target: ActorId, event: Event, reply: asyncio.Future[Any]) -> None:
        """Hand an event over, and its answer to `reply`."""
        answer = self.node.deliver(target, event)
        assert isinstance(answer, asyncio.Future)
        self._answer(reply, answer)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work`, which runs inside the process, gives. Who does not wait for it leaves it running."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._answer(reply, task)
        return await reply

    def links(self) -> list[Link]:
        self._links = [link for link in self._links if link.is_open]
        return list(self._links)

    def link(self, client: asyncio.Protocol, chance: Chance, port: int) -> Link:
        """Connect a client. Raises `ConnectionRefusedError` when the process ends."""
        if self._is_ending:
            raise ConnectionRefusedError("nobody listens: the application is not running")
        link = Link(client, SocketServer(self.node.edge), chance, port)
        self._links = [*self.links(), link]
        return link

    async def close(self) -> None:
        self._is_ending = True
        self.engine.release_commits()
        await self._send_away()
        await self.node.close()
        self._cut_links()
        self._end_connections()
        await self._end_tasks()

    async def die(self) -> None:
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

    def _answer(self, reply: asyncio.Future[Any], source: asyncio.Future[Any]) -> None:
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)
        source.add_done_callback(lambda done: _copy(done, reply))


class _Door:
    """The one door as seen from outside: it leads into whichever process lives now."""

    def __init__(self, app: TestApp) -> None:
        self._app = app

    def forward(self, target: ActorId, event: Event, reply: asyncio.Future[Any], caller: Turn | None) -> None:
        self._app._process.deliver(target, event, reply)

    async def serve(self, service: str, event: Event) -> Any:
        process = self._app._process
        return await process.run(_await(process.node.deliver(service, event)))

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        return await self._app._process.engine.actors(unit, prefix=prefix, after=after, limit=limit)


class _Transport(httpx.AsyncBaseTransport):
    """Requests go straight into the gateway of the living process."""

    def __init__(self, app: TestApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process = self._app._process
        return await process.run(httpx.ASGITransport(process.node.gateway).handle_async_request(request))


async def _await(answer: Any) -> Any:
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


def _application(
    actors: Mapping[str, type[Actor]], services: Mapping[str, type[Service] | ASGIApp], bindings: Mapping[str, Binding]
) -> LoadedApplication:
    manifest = Application(
        name="test",
        actors=tuple(schema.Actor(name=name, visibility=Visibility.PUBLIC) for name in actors),
        services=tuple(schema.Service(name=name, visibility=Visibility.PUBLIC, cname=name) for name in services),
    )
    return LoadedApplication(Path.cwd(), manifest, dict(actors), dict(services), bindings=dict(bindings))
