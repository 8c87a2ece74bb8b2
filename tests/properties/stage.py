"""A cluster that stands in for a `TestApp`, so that one scenario runs on one node and on several.

What goes in goes in at any node. Its crash is a misfortune of one node, from its beginning to its end: it dies, freezes, stops in
order, loses the database or a peer; or an actor moves, or the database fails over to a copy that lacks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import httpx

from stead import Ambiguous, Unavailable
from stead.clock import sleep
from stead.ids import Chance, parse_id
from stead.storage.shared import SharedMemoryEngine
from stead.testing import Cluster, Database, DatabaseEngine, TestApp, VirtualClock
from stead.testing.life import Life
from tests.properties.misfortunes import FAULT_S, NODES, befall

CLUSTER_SEEDS = 60  # in the suite; 500 and more by hand, with STEAD_SEEDS

MISFORTUNES = ("dies", "dies", "stops", "freezes", "loses the database", "loses a peer", "moves", "moves", "fails over")


class Stage:
    """`async with Stage.of(actors={"log": Log}) as app:`, as `TestApp.of`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @classmethod
    def of(cls, **parts: Any) -> Self:
        return cls(Cluster.of(nodes=NODES, **parts))

    async def __aenter__(self) -> Self:
        await self.cluster.__aenter__()
        self.chance = Chance(~self.cluster.seed)
        self.misfortunes: Sequence[str] = MISFORTUNES
        self.env = self.cluster.env
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.cluster.__aexit__(kind, error, trace)

    @property
    def clock(self) -> VirtualClock:
        return self.cluster.clock

    @property
    def store(self) -> Database:
        return self.cluster.database

    @property
    def client(self) -> httpx.AsyncClient:
        """Requests to a node that lives."""
        alive = [node for node in range(NODES) if self.cluster.is_alive(node)]
        return self.cluster.client(alive[self.chance.below(len(alive))])

    # -- faults --------------------------------------------------------------------------------------------------------------------

    async def crash(self) -> None:
        """One misfortune, rather of a node that owns something."""
        owners = [self.cluster.owner(parse_id(text)) for text in sorted(self.store.owners)]
        nodes = [*range(NODES), *(owner for owner in owners if owner is not None)]
        what = self.misfortunes[self.chance.below(len(self.misfortunes))]
        await self.suffer(what, nodes[self.chance.below(len(nodes))])

    async def suffer(self, what: str, node: int) -> None:
        """One misfortune of a node. What waits for the commits of other nodes ends their being held."""
        if what in {"stops", "moves"}:
            for life in self._lives():
                life.engine.release_commits()
        fault_s = FAULT_S * self.chance.fraction()
        if what == "moves":
            await self.move_any()
        else:
            await befall(self.cluster, what, node, fault_s)

    async def move_any(self) -> None:
        """Move an actor that somebody has anywhere, as who asks any node for it."""
        actors = sorted(text for text in self.store.owners if self.store.live_owner(text))
        if actors:
            with suppress(Unavailable, Ambiguous):
                await self.cluster.move(parse_id(actors[self.chance.below(len(actors))]), self.chance.below(NODES))

    async def evict(self, actor: Any) -> None:
        """Drop an actor from the memory of its node, if that is idle and lives."""
        for life in self._lives():
            life.node.evict(actor.id)
        await sleep(0)

    def fail_next_commit(self) -> None:
        """Let the next commit of some node fail, or seem to: its answer is lost."""
        lives = self._lives()
        engine = lives[self.chance.below(len(lives))].engine
        assert isinstance(engine, DatabaseEngine)
        (engine.fail_next_commit if self.chance.below(2) else engine.lose_next_answer)()

    @contextmanager
    def hold_commits(self) -> Iterator[None]:
        """Let the commits of all nodes that live now wait."""
        with ExitStack() as held:
            for life in self._lives():
                held.enter_context(life.engine.hold_commits())
            yield

    def engine(self, node: int) -> SharedMemoryEngine:
        """What a node that lives asks the database by, whatever is between them."""
        engine = self.cluster._seats[node].living().engine
        assert isinstance(engine, DatabaseEngine)
        return engine._shared

    def _lives(self) -> list[Life]:
        seats = self.cluster._seats
        return [seat.living() for seat in seats if seat.is_alive]


App = TestApp | Stage
"""What a scenario runs on."""
