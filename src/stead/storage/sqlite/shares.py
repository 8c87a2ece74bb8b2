"""The engines of a data directory that is divided among workers (see `layout.py`).

`Shares` is the whole directory as one engine: every actor's share does what concerns the actor. Commands use it on a directory that
nobody serves, and to read beside workers that do.

`WorkerEngine` is one worker's: it owns the actors of its share as long as the process lives, and reads the others' files. It keeps
the contract of several nodes over one engine (`membership.py`) without leases: an exclusive lock on a share says that its worker
lives, and while none does its actors wait for the next one. Who the workers are stands in a file in each share.
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from stead.clock import Clock
from stead.errors import Ambiguous, Invalid, Unavailable
from stead.ids import ActorId, Chance
from stead.storage.contract import ActorRow, AlarmRow, Claim, Commit, Engine, OwnedElsewhere
from stead.storage.membership import Member, NodeInfo
from stead.storage.sqlite.engine import SqliteEngine
from stead.storage.sqlite.layout import share_directory, share_of, shares_of
from stead.storage.sqlite.lock import is_alive

MEMBER = "member"  # the file in a share that says who its worker is


class Shares:
    """Every share of a directory, as one engine."""

    def __init__(self, engines: Sequence[SqliteEngine]) -> None:
        self._engines = engines

    @classmethod
    def open(cls, data: Path, clock: Clock, *, read_only: bool = False) -> Self:
        """All shares of `data`, as `SqliteEngine.open` opens one."""
        count = shares_of(data)
        engines = [SqliteEngine.open(share_directory(data, index, count), clock, read_only=read_only) for index in range(count)]
        return cls(engines)

    @property
    def flights(self) -> int:
        return 1

    async def claim(self, actor: ActorId) -> Claim:
        return await self._engine(actor).claim(actor)

    async def release(self, actor: ActorId, epoch: int) -> None:
        await self._engine(actor).release(actor, epoch)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[bool]:
        """Atomic for each share, not over all of them. Raises `Ambiguous` where one of several fails."""
        by_share: dict[int, list[int]] = {}
        for position, commit in enumerate(batch):
            by_share.setdefault(self._share(commit.actor), []).append(position)
        if len(by_share) == 1:
            return await self._engines[next(iter(by_share))].commit(batch)
        answers = await asyncio.gather(
            *(self._engines[share].commit([batch[position] for position in positions]) for share, positions in by_share.items()),
            return_exceptions=True,
        )
        verdicts = [False] * len(batch)
        for positions, applied in zip(by_share.values(), answers, strict=True):
            if isinstance(applied, BaseException):
                raise Ambiguous(f"a share failed, and others may have applied their part: {applied}") from applied
            for position, verdict in zip(positions, applied, strict=True):
                verdicts[position] = verdict
        return verdicts

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._engine(actor).read(actor, keys)

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        return await self._engine(actor).scan(actor, start, end, reverse=reverse, limit=limit)

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        parts = [await engine.due(before_ms, limit) for engine in self._engines]
        return list(heapq.merge(*parts, key=lambda row: (row.due_ms, row.actor.text, row.name)))[:limit]

    async def next_due_ms(self) -> int | None:
        found = [await engine.next_due_ms() for engine in self._engines]
        return min((due_ms for due_ms in found if due_ms is not None), default=None)

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        parts = [await engine.actors(unit, prefix=prefix, after=after, limit=limit) for engine in self._engines]
        return list(heapq.merge(*parts, key=lambda row: row.actor.text))[:limit]

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()

    def _share(self, actor: ActorId) -> int:
        return share_of(actor.text, len(self._engines))

    def _engine(self, actor: ActorId) -> SqliteEngine:
        return self._engines[self._share(actor)]


class WorkerEngine(Shares):
    """The engine of one of several workers; `data` must have been divided among as many (`divide`)."""

    def __init__(self, data: Path, index: int, engines: Sequence[SqliteEngine], chance: Chance) -> None:
        super().__init__(engines)
        self._data = data
        self._index = index
        self._own = engines[index]
        self._chance = chance
        self._lease_s = 0.0
        self.incarnation = 0

    @classmethod
    def open_worker(cls, data: Path, index: int, clock: Clock, chance: Chance) -> Self:
        """The engine of the worker `index`. Raises `EngineFailed` as `SqliteEngine.open` does."""
        count = shares_of(data)
        places = [share_directory(data, share, count) for share in range(count)]
        own = SqliteEngine.open(places[index], clock)
        others = [own if share == index else SqliteEngine.open(place, clock, read_only=True) for share, place in enumerate(places)]
        return cls(data, index, others, chance)

    async def claim(self, actor: ActorId) -> Claim:
        share = self._share(actor)
        if share == self._index:
            return await self._own.claim(actor)
        member = self._member(share)
        if member is None:
            raise Unavailable(f"the worker that has {actor} is starting; try again")
        raise OwnedElsewhere(member.incarnation)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[bool]:
        return await self._own.commit(batch)

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        return await self._own.due(before_ms, limit)

    async def next_due_ms(self) -> int | None:
        return await self._own.next_due_ms()

    @property
    def has_fixed_owners(self) -> bool:
        return True

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        """The name of a worker is never taken: its share has a lock. Nor does a worker drain."""
        self.incarnation = self._chance.below(2**62 - 1) + 1
        self._lease_s = lease_s
        path = self._member_path(self._index)
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(_Worker(os.getpid(), self.incarnation, info)))
        partial.replace(path)

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        """Nobody shares orphans: each worker has those of its share."""
        found = [self._member(share) for share in range(len(self._engines))]
        return sorted((member for member in found if member is not None), key=lambda member: member.incarnation)

    async def leave(self) -> None:
        if self.incarnation:
            self.incarnation = 0
            self._member_path(self._index).unlink(missing_ok=True)

    async def set_draining(self, name: str, is_draining: bool) -> bool:
        """Raises `Invalid`: the share of a worker is its own, and nobody else can have it."""
        raise Invalid("workers that share a data directory cannot be drained: stop the server, or use --engine postgres://…")

    async def owner(self, actor: ActorId) -> int | None:
        member = self._member(self._share(actor))
        return None if member is None else member.incarnation

    async def owned(self, incarnation: int | None = None) -> dict[int, int]:
        counts: dict[int, int] = {}
        for share, engine in enumerate(self._engines):
            member = self._member(share)
            if member is not None and incarnation in {None, member.incarnation}:
                counts[member.incarnation] = engine.stored()
        return counts

    async def close(self) -> None:
        await self.leave()
        await super().close()

    def _member(self, share: int) -> Member | None:
        """The worker of a share, if it lives."""
        try:
            worker = msgspec.json.decode(self._member_path(share).read_bytes(), type=_Worker)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return Member(worker.incarnation, worker.info, False, self._lease_s) if is_alive(worker.pid) else None

    def _member_path(self, share: int) -> Path:
        return share_directory(self._data, share, len(self._engines)) / MEMBER


class _Worker(msgspec.Struct, frozen=True):
    """What a worker's file holds."""

    pid: int
    incarnation: int
    info: NodeInfo


def open_data(data: Path, clock: Clock, *, read_only: bool = False) -> Engine:
    """The engine of a data directory, whether it is divided or not."""
    if shares_of(data) > 1:
        return Shares.open(data, clock, read_only=read_only)
    return SqliteEngine.open(data, clock, read_only=read_only)
