"""The engines keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import ActorId, named_id
from stead.storage.contract import Claim, Commit, Engine, Refused, Verdict
from stead.storage.memory import MemoryEngine, MemoryStore
from stead.storage.sqlite import Shares, SqliteEngine, divide
from stead.testing import conformance

CART = named_id("cart", "a")


class TestMemoryEngine(conformance.EngineConformance):
    def setup_method(self) -> None:
        self.stores: dict[Path, MemoryStore] = {}

    async def open_engine(self, place: Path) -> Engine:
        return MemoryEngine(self.stores.setdefault(place, MemoryStore()))


class TestSqliteEngine(conformance.EngineConformance):
    async def open_engine(self, place: Path) -> Engine:
        return SqliteEngine.open(place, SystemClock())


class TestShares(conformance.EngineConformance):
    """Three databases as one."""

    async def open_engine(self, place: Path) -> Engine:
        divide(place, 3, lambda done, total: None)
        return Shares.open(place, SystemClock())


def test_memory_engine_is_fenced_by_a_later_one() -> None:
    """A second engine over a store takes over: an engine that was not even closed can neither commit nor claim."""

    async def run() -> None:
        store = MemoryStore()
        crashed = MemoryEngine(store)
        before = await conformance.claimed(crashed, CART)
        later = MemoryEngine(store)
        assert await crashed.commit([before.turn({b"k": b"v"})]) == [False]
        after = await conformance.claimed(later, CART)
        assert after.claim.epoch > before.claim.epoch
        assert await later.commit([after.turn({b"k": b"w"})]) == [True]
        with pytest.raises(EngineFailed):
            await crashed.claim(CART)
        assert await later.read(CART, [b"k"]) == {b"k": b"w"}

    asyncio.run(run())


class ForgetsEpochs(MemoryEngine):
    """Applies a fenced owner's commits."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        return await super().commit([msgspec.structs.replace(c, epoch=self._ownership(c.actor).epoch) for c in batch])


class ForgetsRefusals(MemoryEngine):
    """Applies what follows a refused commit of its claim."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        return [verdict for commit in batch for verdict in await super(ForgetsRefusals, self).commit([commit])]


class ForgetsErasing(MemoryEngine):
    """Keeps what an erasing commit drops."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        return await super().commit([msgspec.structs.replace(commit, erase=False) for commit in batch])


class ForgetsReleases(MemoryEngine):
    """Keeps an owner who gave up."""

    async def release(self, actor: ActorId, epoch: int) -> None:
        """Do nothing."""


class LendsItsEntries(MemoryEngine):
    """Hands the stored dictionary out."""

    async def claim(self, actor: ActorId) -> Claim:
        claim = await super().claim(actor)
        stored = self.store.actors.get(actor.text)
        return claim if stored is None else msgspec.structs.replace(claim, entries=stored.entries)


class RepeatsEpochs(MemoryEngine):
    """Counts epochs from the start again at each opening."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        store.generation = self._owner = 1
        store.owners.clear()


class ReadsOneTooMany(MemoryEngine):
    """Takes the end of a scan to be inside it."""

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        end = None if end is None else end + b"\0"
        return await super().scan(actor, start, end, reverse=reverse, limit=limit)


BROKEN: tuple[type[MemoryEngine], ...] = (
    ForgetsEpochs,
    ForgetsRefusals,
    ForgetsErasing,
    ForgetsReleases,
    LendsItsEntries,
    RepeatsEpochs,
    ReadsOneTooMany,
)


@pytest.mark.parametrize("broken", BROKEN)
def test_the_suite_finds_broken_engines(broken: type[MemoryEngine], tmp_path: Path) -> None:
    """Each planted bug fails at least one test of the suite that is not the random one."""
    stores: dict[Path, MemoryStore] = {}

    class Suite(conformance.EngineConformance):
        async def open_engine(self, place: Path) -> Engine:
            return broken(stores.setdefault(place, MemoryStore()))

    failed = failing(Suite, tmp_path)
    assert len(failed) < 10, f"it should be one bug, not a broken engine altogether: {failed}"


POISON = b"poison"


class Picky(MemoryEngine):
    """Cannot store the key POISON."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        refused: set[tuple[str, int]] = set()
        said: dict[int, Verdict] = {}
        for position, commit in enumerate(batch):
            claim = (commit.actor.text, commit.epoch)
            if POISON in commit.writes:
                said[position] = Refused(EngineFailed("it is poison"))
                refused.add(claim)
            elif claim in refused:
                said[position] = False
        others = iter(await super().commit([commit for position, commit in enumerate(batch) if position not in said]))
        return [said[position] if position in said else next(others) for position in range(len(batch))]


class TestPicky(conformance.RefusingConformance):
    unstorable: ClassVar = {POISON: b""}

    def setup_method(self) -> None:
        self.stores: dict[Path, MemoryStore] = {}

    async def open_engine(self, place: Path) -> Engine:
        return Picky(self.stores.setdefault(place, MemoryStore()))


class CallsThemFenced(Picky):
    """Says nothing of why."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        return [bool(verdict) for verdict in await super().commit(batch)]


class CallsThemApplied(Picky):
    """Says that it has what it could not store."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        return [bool(verdict) or isinstance(verdict, Refused) for verdict in await super().commit(batch)]


class StoresTheRest(Picky):
    """Leaves out of a commit what it cannot store."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        sound = [
            msgspec.structs.replace(commit, writes={key: value for key, value in commit.writes.items() if key != POISON})
            for commit in batch
        ]
        verdicts = await super().commit(sound)
        return [
            Refused(EngineFailed("it is poison")) if POISON in commit.writes else verdict
            for commit, verdict in zip(batch, verdicts, strict=True)
        ]


class FailsAltogether(Picky):
    """Takes nothing of a batch with something that it cannot store."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        if any(POISON in commit.writes for commit in batch):
            return [Refused(EngineFailed("there is poison in it"))] * len(batch)
        return await super().commit(batch)


@pytest.mark.parametrize("broken", [CallsThemFenced, CallsThemApplied, StoresTheRest, FailsAltogether])
def test_the_suite_finds_engines_that_refuse_wrongly(broken: type[Picky], tmp_path: Path) -> None:
    """Each planted bug fails the tests of what cannot be stored, and no other one."""

    class Suite(TestPicky):
        async def open_engine(self, place: Path) -> Engine:
            return broken(self.stores.setdefault(place, MemoryStore()))

    assert failing(Suite, tmp_path) <= {
        "test_what_cannot_be_stored_is_refused_alone",
        "test_a_batch_of_what_cannot_be_stored",
    }


def failing(suite: type[conformance.EngineConformance], tmp_path: Path) -> set[str]:
    """The tests of a suite that fail, but for the random one. There are some."""
    failed = set()
    for name in sorted(set(dir(suite)) - {"test_model"}):
        if name.startswith("test_"):
            one = suite()
            if isinstance(one, TestPicky):
                one.setup_method()
            try:
                getattr(one, name)(tmp_path / name)
            except AssertionError:
                failed.add(name)
    assert failed
    return failed
