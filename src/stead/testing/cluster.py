"""`Cluster`: several nodes of one application on one loop, over one database and a network in memory, with the faults of both.

Each node is the real one: runtime, router, channels, membership, gateway. What they share is a `Database`, a `MemoryNetwork` and
the object store. `env`, `client` and `connect` are the world outside.

**What a fault is.** `kill`: as `TestApp.crash`, and nobody is told; the lease ends by itself. `pause`: nothing of the node runs, as
under SIGSTOP, and what is sent to it waits; what it had asked of the database waits as well, where a real one might still do it.
`partition` from another node: nothing passes, nothing is reset; from the database: requests wait, and are given up after a while.
`failover`: see `stead.testing.Database`. Clocks may be skewed; the database's own is always right.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import msgspec
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection

from stead.api import Actor, Env, Service
from stead.bindings import Binding
from stead.clock import sleep
from stead.errors import Invalid, Unavailable
from stead.ids import ActorId, Chance
from stead.logic.lease import LEASE_S, RENEW_SHARE
from stead.node import LoadedApplication, load_application
from stead.runtime.stubs import Stub
from stead.storage.contract import Commit
from stead.testing.app import BASE_URL, FIRST_PORT, HOST, World, application_of, outside_env
from stead.testing.blobs import MemoryBlobs
from stead.testing.database import Database
from stead.testing.life import Door, Life, Pick, Transport
from stead.testing.link import Link
from stead.testing.loop import SeededLoop, VirtualClock, current_clock
from stead.testing.network import MemoryNetwork
from stead.testing.seat import Ground, Place, Seat
from stead.testing.socket import Handshake, LinkedConnection, TestSocket, open_connection, socket_url

DATABASE = "database"  # one side of a partition
NODES = 3


class Cluster:
    """`async with Cluster("stead.manifest", nodes=3, seed=7) as cluster:`; nodes are numbered from 0.

    It must run on a `SeededLoop`. Without a seed it takes the loop's. `places` are those of the nodes, as far as given.
    """

    def __init__(
        self,
        application: str | Path | LoadedApplication,
        *,
        nodes: int = NODES,
        seed: int | None = None,
        world: World = World(),
        lease_s: float = LEASE_S,
        places: Sequence[Place] = (),
    ) -> None:
        self.application = application if isinstance(application, LoadedApplication) else load_application(Path(application))
        self.lease_s = lease_s
        self._seed = seed
        self._world = world
        self._places = [*places, *itertools.repeat(Place(), nodes - len(places))]

    @classmethod
    def of(
        cls,
        *,
        actors: Mapping[str, type[Actor]] | None = None,
        services: Mapping[str, type[Service] | ASGIApp] | None = None,
        bindings: Mapping[str, Binding] | None = None,
        nodes: int = NODES,
        seed: int | None = None,
        world: World = World(),
        lease_s: float = LEASE_S,
        places: Sequence[Place] = (),
    ) -> Self:
        """As `TestApp.of`."""
        application = application_of(actors or {}, services or {}, bindings or {})
        return cls(application, nodes=nodes, seed=seed, world=world, lease_s=lease_s, places=places)

    async def __aenter__(self) -> Self:
        self.clock: VirtualClock = current_clock()
        self._loop = asyncio.get_running_loop()
        assert isinstance(self._loop, SeededLoop)
        self.seed = self._loop.seed if self._seed is None else self._seed
        self._chance = Chance(self.seed)
        self.database = Database(self.clock)
        self.network = MemoryNetwork(self.seed)
        self.blobs = MemoryBlobs(Chance(~self.seed))
        self._ports = itertools.count(FIRST_PORT)
        ground = Ground(self.application, self._world, self.clock, self.database, self.network, self.blobs, self.lease_s, self.seed)
        self._seats = [Seat(ground, number, place) for number, place in enumerate(self._places)]
        self._clients: list[httpx.AsyncClient] = []
        self._envs: dict[int, Env] = {}  # to make one takes longer than a call
        for seat in self._seats:
            await seat.start()
        await sleep(self.lease_s * RENEW_SHARE * 2)  # until each has heard of all
        self.env: Env = self._env(self._any)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End all faults and stop the nodes in order, one after the other; at once if the block raised."""
        if isinstance(error, GeneratorExit):  # the loop has ended before the block did: nothing runs any more
            return
        for client in self._clients:
            await client.aclose()
        if error is None:
            self.heal()
        for seat in self._seats:
            if seat.is_alive:
                seat.resume()
                await (seat.stop() if error is None else seat.kill())

    # -- the world outside ---------------------------------------------------------------------------------------------------------

    def env_at(self, node: int) -> Env:
        """The bindings, with calls that go in at one node. `env` goes in at any that lives, as the seed decides."""
        if node not in self._envs:
            self._envs[node] = self._env(self._seats[node].living)
        return self._envs[node]

    def client(self, node: int) -> httpx.AsyncClient:
        """Requests to one node."""
        client = httpx.AsyncClient(transport=Transport(self._seats[node].living), base_url=BASE_URL)
        self._clients.append(client)
        return client

    def connect(
        self,
        node: int,
        address: str,
        *,
        host: str = HOST,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> TestSocket:
        """A WebSocket to one node, as `TestApp.connect` opens it."""
        handshake = Handshake(socket_url(address, host, id), headers or {}, subprotocols)
        return TestSocket(partial(self._open, node, handshake))

    def is_alive(self, node: int) -> bool:
        """Whether it has been started and neither killed nor stopped."""
        return self._seats[node].is_alive

    def owner(self, actor: Stub | ActorId) -> int | None:
        """The node whose lease holds and which owns an actor, as the database has it. None: nobody's."""
        text = (actor.id if isinstance(actor, Stub) else actor).text
        row = self.database.nodes.get(self.database.live_owner(text))
        return None if row is None else next(seat.number for seat in self._seats if seat.name == row.info.name)

    def stats(self, node: int) -> dict[str, int]:
        """Counts of a node since its start, and what is in its memory now."""
        return self._seats[node].living().node.stats()

    async def move(self, actor: Stub | ActorId, to: int) -> bool:
        """Give an actor to a node, by an order to any that lives. False if nobody has it."""
        part = self._any().node.cluster
        assert part is not None
        return await part.move(actor.id if isinstance(actor, Stub) else actor, self._seats[to].name)

    def drain(self, node: int, is_draining: bool = True) -> None:
        """Have a node give its actors to others and take no more, as `stead nodes drain` does; or take actors again."""
        row = next(row for row in self.database.live() if row.info.name == self._seats[node].name)
        self.database.enrol(msgspec.structs.replace(row, is_draining=is_draining))

    # -- faults --------------------------------------------------------------------------------------------------------------------

    async def kill(self, node: int) -> None:
        """Lose a node's process with all that it had not committed. Who waits for its answer gets `Ambiguous`."""
        await self._seats[node].kill()

    async def stop(self, node: int) -> None:
        """Stop a node in order: it hands its actors over first."""
        await self._seats[node].stop()

    async def restart(self, node: int) -> None:
        """Start a node that was killed or stopped; kill it first if it lives. Its name is the same, its incarnation is not."""
        if self._seats[node].is_alive:
            await self._seats[node].kill()
        await self._seats[node].start()

    def pause(self, node: int) -> None:
        """Freeze a node's process: nothing of it runs, and nobody is told."""
        self._seats[node].pause()

    def resume(self, node: int) -> None:
        """Let a paused node go on."""
        self._seats[node].resume()

    def partition(self, node: int, other: int | str) -> None:
        """Let nothing through between two nodes, or between a node and "database", until `heal`."""
        if other == DATABASE:
            self._seats[node].cut()
        elif isinstance(other, int):
            self.network.partition([self._seats[node].address], [self._seats[other].address])
        else:
            raise Invalid(f"{other!r} is neither a node's number nor {DATABASE!r}")

    def heal(self) -> None:
        """End all partitions: what waited arrives."""
        self.network.heal()
        for seat in self._seats:
            seat.mend()

    def skew_clock(self, node: int, seconds: float) -> None:
        """Make a node's wall clock that much wrong from now on; 0 sets it right."""
        self._seats[node].clock.skew_ms = int(seconds * 1000)

    def failover(self, lost: int = 0) -> list[Commit]:
        """Go on with a copy of the database that lacks its last `lost` commits, and return those. With 0 nothing is lost."""
        return self.database.fail_over(lost)

    # -- nodes ---------------------------------------------------------------------------------------------------------------------

    def _env(self, pick: Pick) -> Env:
        return outside_env(self.application, Door(pick), self.clock, self._chance, self.blobs, self._world)

    def _any(self) -> Life:
        alive = [seat for seat in self._seats if seat.is_alive]
        if not alive:
            raise Unavailable("no node of the cluster lives")
        return alive[self._chance.below(len(alive))].living()

    async def _open(self, node: int, handshake: Handshake) -> LinkedConnection:
        def link(client: ClientConnection) -> Link:
            return self._seats[node].living().link(client, self.network.chance, next(self._ports))

        return await open_connection(handshake, link)
