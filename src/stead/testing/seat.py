"""A node's seat in a `Cluster`, over all its lives: its name, its address, its clock, and the process that has it now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from stead.cluster import ClusterPart, Membership, Peers
from stead.errors import Unavailable
from stead.ids import Chance
from stead.node import LoadedApplication, Node, Operating, Settings
from stead.storage.membership import NodeInfo
from stead.testing.app import World
from stead.testing.blobs import MemoryBlobs
from stead.testing.database import Database, DatabaseEngine
from stead.testing.life import Life
from stead.testing.loop import Process, SeededLoop, VirtualClock
from stead.testing.network import MemoryNetwork

KEY = b"a key that all nodes of a test share"
_LIVES = 1000  # of a seat at most; sets their chances apart from each other's and from those of other seats
_SEATS = 1 << 34  # sets them apart from the other chances of a seed


@dataclass(frozen=True)
class Place:
    """What a node has that others may not have: what placement goes by."""

    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """What all seats of a cluster stand on."""

    application: LoadedApplication
    world: World
    clock: VirtualClock
    database: Database
    network: MemoryNetwork
    blobs: MemoryBlobs
    lease_s: float
    seed: int


class SkewedClock:
    """A clock whose wall time may be wrong; the time that it measures is not."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.skew_ms = 0

    def now_ms(self) -> int:
        return self._clock.now_ms() + self.skew_ms

    def elapsed_s(self) -> float:
        return self._clock.elapsed_s()


class Seat:
    """Nobody sits in it before `start`."""

    def __init__(self, ground: Ground, number: int, place: Place) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        self.number = number
        self.name = f"node-{number}"
        self.address = f"{self.name}:7000"
        self.clock = SkewedClock(ground.clock)
        self._loop = loop
        self._ground = ground
        self._place = place
        self._lives = 0
        self._is_cut = False
        self._process = Process(self.name)
        self._engine: DatabaseEngine
        self._life: Life | None = None

    @property
    def is_alive(self) -> bool:
        return self._life is not None

    def living(self) -> Life:
        """Who sits in it. Raises `Unavailable` if nobody does."""
        if self._life is None:
            raise Unavailable(f"{self.name} does not run")
        return self._life

    async def start(self) -> None:
        """Begin a life. Raises `EngineFailed` while the database cannot be reached."""
        assert self._life is None, f"{self.name} runs already"
        self._lives += 1
        chance = Chance(self._ground.seed + _SEATS + self.number * _LIVES + self._lives)
        self._process = Process(f"{self.name}, life {self._lives}")
        self._engine = self._ground.database.engine(chance, self._ground.world.commit_s)
        if self._is_cut:
            self._engine.cut()
        node = await self._loop.create_task(self._begin(chance), context=self._process.context())
        self._life = Life(node, self._engine, self._process)

    async def stop(self) -> None:
        """End the life in order."""
        life, self._life = self.living(), None
        await self._loop.create_task(life.close(), context=self._process.context())

    async def kill(self) -> None:
        """End the life at once."""
        life, self._life = self.living(), None
        self._ground.network.crash(self.address)
        self._loop.thaw(self._process)  # to be cancelled: nothing of it runs before the engine knows that it is dead
        await life.die()

    def pause(self) -> None:
        self._loop.freeze(self._process)

    def resume(self) -> None:
        self._loop.thaw(self._process)

    def cut(self) -> None:
        """Take its way to the database from whoever sits in it."""
        self._is_cut = True
        if self._life is not None:
            self._engine.cut()

    def mend(self) -> None:
        self._is_cut = False
        if self._life is not None:
            self._engine.mend()

    async def _begin(self, chance: Chance) -> Node:
        ground = self._ground
        peers = Peers(ground.network.host(self.address), (KEY,), chance)
        address = await peers.listen(self.address)
        info = NodeInfo(self.name, address, f"http://{self.name}", self._place.region, dict(self._place.labels))
        membership = Membership(self._engine, info, self.clock, ground.lease_s)
        operating = Operating(
            environ=ground.world.environ, blobs=ground.blobs, cluster=ClusterPart(self._engine, peers, membership)
        )
        node = Node(ground.application, self._engine, Settings(), self.clock, chance, operating)
        await node.start()
        return node
