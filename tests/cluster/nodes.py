"""Several real nodes on one loop: each with its engine over one database and its channels in one network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from stead import Actor, Service
from stead.clock import sleep
from stead.cluster import ClusterPart, Membership, Peers
from stead.ids import ActorId, Chance, named_id
from stead.node import Node, Operating, Settings
from stead.storage.membership import NodeInfo
from stead.testing import Database, DatabaseEngine, MemoryNetwork, TestApp, current_clock

KEY = b"k" * 32
LEASE_S = 6.0


class Life:
    """One life of a node."""

    def __init__(self, node: Node, engine: DatabaseEngine, peers: Peers, part: ClusterPart) -> None:
        self.node = node
        self.engine = engine
        self.peers = peers
        self.part = part

    @property
    def env(self) -> Any:
        return self.node.env

    def has(self, actor: ActorId) -> bool:
        """Whether the actor is in this node's memory."""
        return self.part.here.has(actor)


class Nodes:
    """`async with Nodes(3, actors={...}, seed=7) as nodes:`; `nodes[0].env` is a node's own bindings."""

    def __init__(
        self,
        count: int,
        *,
        actors: Mapping[str, type[Actor]],
        services: Mapping[str, type[Service] | ASGIApp] | None = None,
        seed: int = 0,
        commit_s: float = 0.0,
    ) -> None:
        self._count = count
        self._application = TestApp.of(actors=actors, services=services or {}).application
        self._chance = Chance(seed)
        self._commit_s = commit_s
        self.clock = current_clock()
        self.database = Database(self.clock)
        self.network = MemoryNetwork(seed)
        self.lives: dict[int, Life] = {}

    async def __aenter__(self) -> Nodes:
        for number in range(self._count):
            await self.start(number)
        await sleep(LEASE_S / 2)  # until all have heard of each other
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not GeneratorExit:
            for number in list(self.lives):
                await self.kill(number)

    def __getitem__(self, number: int) -> Life:
        return self.lives[number]

    async def start(self, number: int) -> Life:
        """Begin a life of a node."""
        address = self.address(number)
        engine = self.database.engine(Chance(self._chance.below(1 << 60)), self._commit_s)
        peers = Peers(self.network.host(address), KEY, Chance(self._chance.below(1 << 60)))
        membership = Membership(engine, NodeInfo(f"n{number}", address), self.clock, LEASE_S)
        part = ClusterPart(engine, peers, membership)
        chance = Chance(self._chance.below(1 << 60))
        node = Node(self._application, engine, Settings(), self.clock, chance, Operating(cluster=part))
        await peers.listen(address)
        await node.start()
        life = self.lives[number] = Life(node, engine, peers, part)
        return life

    async def stop(self, number: int) -> None:
        """End a life as `stead serve` does."""
        await self.lives.pop(number).node.close()

    async def kill(self, number: int) -> None:
        """Crash."""
        life = self.lives.pop(number)
        self.network.crash(self.address(number))
        await life.engine.crash()
        await life.node.abandon()

    @staticmethod
    def address(number: int) -> str:
        return f"n{number}:1"

    def owner(self, unit: str, name: str) -> int | None:
        """The number of the node that has an actor in memory."""
        return next((number for number, life in self.lives.items() if life.has(named_id(unit, name))), None)
