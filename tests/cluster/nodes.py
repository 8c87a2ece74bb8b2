"""A cluster that is looked into: its nodes are asked from within, where a test of one mechanism has to know which has an actor."""

from __future__ import annotations

from typing import Any

from stead.cluster import ClusterPart
from stead.ids import ActorId, named_id
from stead.node import Node
from stead.testing import Cluster, DatabaseEngine
from stead.testing.life import Life


class Within:
    """A node that lives."""

    def __init__(self, life: Life) -> None:
        part = life.node.cluster
        assert part is not None
        assert isinstance(life.engine, DatabaseEngine)
        self.node: Node = life.node
        self.engine: DatabaseEngine = life.engine
        self.part: ClusterPart = part

    @property
    def env(self) -> Any:
        """Its own bindings."""
        return self.node.env

    def has(self, actor: ActorId) -> bool:
        """Whether the actor is in this node's memory."""
        return self.part.here.has(actor)


class Nodes(Cluster):
    """`async with Nodes.of(nodes=3, actors={...}) as nodes:`; `nodes[0].env` is a node's own bindings."""

    def __getitem__(self, node: int) -> Within:
        return Within(self._seats[node].living())

    def holder(self, unit: str, name: str) -> int | None:
        """The node that has an actor in memory."""
        actor = named_id(unit, name)
        return next((seat.number for seat in self._seats if seat.is_alive and self[seat.number].has(actor)), None)
