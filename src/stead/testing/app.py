"""`TestApp`: a whole application in memory, with the faults of the world at hand.

It is the real node (runtime, gateway, bindings) over a `FaultEngine`, networks in memory and the virtual clock of the running
`SeededLoop`. `env`, `client` and `connect` are the world outside: they outlive a crash, as a browser outlives a server, and whoever
was waiting for an answer when it came gets `Ambiguous`; the client of a socket sees 1006.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection

from stead.api import Actor, Env, Service
from stead.bindings import BLOBS, Binding
from stead.clock import Clock, sleep
from stead.errors import Invalid
from stead.ids import ActorId, Chance
from stead.manifest import Application, Visibility, schema
from stead.node import LoadedApplication, Node, Operating, Settings, load_application
from stead.node.variables import application_variables
from stead.runtime.classes import ActorClass
from stead.runtime.env import Bindings, bind_units
from stead.runtime.stubs import ActorNamespace, Stub
from stead.storage.memory import MemoryEngine, MemoryStore
from stead.testing.blobs import MemoryBlobs
from stead.testing.faults import FaultEngine, HeldCommits
from stead.testing.life import Door, Life, Transport
from stead.testing.link import Link
from stead.testing.loop import SeededLoop, VirtualClock, current_clock
from stead.testing.socket import Handshake, LinkedConnection, TestSocket, open_connection, socket_url

HOST = "localhost"
BASE_URL = f"http://{HOST}"
PING_S, UNREAD_MAX = 20.0, 16  # of a client of `dial`: as `websockets` has them
FIRST_PORT = 50_000  # of the clients
_NETWORK, _BLOBS = 1 << 32, 1 << 33  # what sets the chances of the network and of blobs apart from the others of a seed
EVICT_WAIT_S = 120.0  # how long an actor may stay busy: twice a turn's limit, and then some
_EVICT_POLL_S = 0.001


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
        return cls(application_of(actors or {}, services or {}, bindings or {}), seed=seed, world=world)

    async def __aenter__(self) -> Self:
        self.clock: VirtualClock = current_clock()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        self.seed = loop.seed if self._seed is None else self._seed
        self._chance, self._disk_chance = Chance(self.seed), Chance(~self.seed)
        self._network_chance = Chance(self.seed + _NETWORK)
        self.blobs = MemoryBlobs(Chance(self.seed + _BLOBS))
        self._ports = itertools.count(FIRST_PORT)
        self._process = await self._start()
        self.env: Env = outside_env(self.application, Door(self._living), self.clock, self._chance, self.blobs, self._world)
        self.client = httpx.AsyncClient(transport=Transport(self._living), base_url=BASE_URL)
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

    async def _start(self) -> Life:
        engine = FaultEngine(MemoryEngine(self.store), self._disk_chance, self._world.commit_s)
        operating = Operating(environ=self._world.environ, blobs=self.blobs)
        node = Node(self.application, engine, Settings(), self.clock, self._chance, operating)
        await node.start()
        return Life(node, engine)

    def _living(self) -> Life:
        return self._process


def outside_env(
    application: LoadedApplication, door: Door, clock: Clock, chance: Chance, blobs: MemoryBlobs, world: World
) -> Bindings:
    """The bindings as a service has them, for who is outside: each call goes through `door`."""
    env = Bindings(clock)
    env.bind(BLOBS, blobs)
    for name, value in application_variables(application.manifest, world.environ or {}).items():
        env.bind(name, value)
    classes = {unit: ActorClass(unit, cls) for unit, cls in application.every_actor.items()}
    namespace = partial(ActorNamespace, door=door, registry=door, chance=chance)
    bind_units(env, classes, application.every_service, namespace, door, application.clients)
    return env


def application_of(
    actors: Mapping[str, type[Actor]], services: Mapping[str, type[Service] | ASGIApp], bindings: Mapping[str, Binding]
) -> LoadedApplication:
    """An application without a manifest; every unit is public."""
    manifest = Application(
        name="test",
        actors=tuple(schema.Actor(name=name, visibility=Visibility.PUBLIC) for name in actors),
        services=tuple(schema.Service(name=name, visibility=Visibility.PUBLIC, cname=name) for name in services),
    )
    return LoadedApplication(Path.cwd(), manifest, dict(actors), dict(services), bindings=dict(bindings))
