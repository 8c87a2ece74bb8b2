"""An engine that does what disks do: it takes its time, holds commits back, fills up, and dies with its process.

It stands before another engine and keeps the contract of `stead.storage.contract`. A commit is under way from the call until it
returns; in the middle it becomes durable. A crash decides each commit that was not durable yet: the seed says whether it reached
the disk. What was durable stays, and what has been acknowledged was durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from stead.clock import sleep
from stead.errors import EngineFailed
from stead.ids import ActorId, Chance
from stead.storage.contract import ActorRow, AlarmRow, Claim, Commit, Engine, Verdict

_STEPS_MAX = 4  # of the loop that an answer of the engine takes at most, so that others run in between


class HeldCommits:
    """Commits that wait until `release`, or until the end of the `with` block."""

    def __init__(self) -> None:
        self.waiting = 0  # commits held now
        self._arrived = asyncio.Event()
        self._released = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Let what waits and what comes later through."""
        self._released.set()

    async def wait(self) -> None:
        """Return once a commit waits here."""
        await self._arrived.wait()

    async def stop(self, commits: int) -> None:
        """What a commit of so many turns does here."""
        if self._released.is_set():
            return
        self.waiting += commits
        self._arrived.set()
        try:
            await self._released.wait()
        finally:
            self.waiting -= commits


class _Flight:
    """A batch under way."""

    def __init__(self, batch: Sequence[Commit]) -> None:
        self.batch = batch
        self.durable = False


class FaultEngine:
    """`engine` with faults. A commit takes up to `commit_s` seconds of virtual time, as `chance` says."""

    def __init__(self, engine: Engine, chance: Chance, commit_s: float = 0.0) -> None:
        self._engine = engine
        self._chance = chance
        self._commit_s = commit_s
        self._holds: list[HeldCommits] = []
        self._failures: deque[EngineFailed] = deque()
        self._flights: list[_Flight] = []
        self._crashed = False

    def hold_commits(self) -> HeldCommits:
        """Make commits wait from now on."""
        held = HeldCommits()
        self._holds.append(held)
        return held

    def release_commits(self) -> None:
        """Release whatever is held."""
        for held in self._holds:
            held.release()
        self._holds.clear()

    def fail_next_commit(self) -> None:
        """Make the next batch fail as on a full disk: nothing of it is applied."""
        self._failures.append(EngineFailed("the disk is full (a fault of the test): free some space and try again"))

    async def crash(self) -> None:
        """Die: decide each of the batches under way by itself, as they share no actor, and answer nobody any more."""
        self._crashed = True
        for flight in self._flights:
            if not flight.durable and not self._chance.below(2):
                await self._engine.commit(flight.batch)

    @property
    def flights(self) -> int:
        return self._engine.flights

    async def claim(self, actor: ActorId) -> Claim:
        await self._reach()
        return await self._engine.claim(actor)

    async def release(self, actor: ActorId, epoch: int) -> None:
        await self._reach()
        await self._engine.release(actor, epoch)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        flight = _Flight(batch)
        self._flights.append(flight)
        try:
            await self._reach()
            await sleep(self._commit_s * self._chance.fraction())
            for held in list(self._holds):
                await held.stop(len(batch))
            self._check_alive()
            if self._failures:
                raise self._failures.popleft()
            verdicts = await self._engine.commit(batch)
            flight.durable = True
            await self._reach()
            return verdicts
        finally:
            self._flights.remove(flight)

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        await self._reach()
        return await self._engine.read(actor, keys)

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        await self._reach()
        return await self._engine.scan(actor, start, end, reverse=reverse, limit=limit)

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        await self._reach()
        return await self._engine.due(before_ms, limit)

    async def next_due_ms(self) -> int | None:
        await self._reach()
        return await self._engine.next_due_ms()

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        await self._reach()
        return await self._engine.actors(unit, prefix=prefix, after=after, limit=limit)

    async def close(self) -> None:
        await self._engine.close()

    async def _reach(self) -> None:
        """Take a few steps of the loop, and arrive unless the process has died."""
        self._check_alive()
        for _ in range(self._chance.below(_STEPS_MAX + 1)):
            await sleep(0)
        self._check_alive()

    def _check_alive(self) -> None:
        if self._crashed:
            raise EngineFailed("the process of this engine has crashed (a fault of the test)")
