"""The engine of several nodes in memory keeps both contracts, and the suite of the second finds engines that do not."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.clock import SystemClock
from stead.ids import ActorId, Chance, named_id
from stead.storage.contract import Commit, Engine
from stead.storage.membership import LeaseLost, NodeInfo, SharedEngine
from stead.storage.memory import NOBODYS, Ownership
from stead.storage.shared import SharedMemoryEngine, SharedStore
from stead.testing import conformance, current_clock, run
from stead.testing.conformance_shared import SharedConformance, node

CART = named_id("cart", "a")


class TestAlone(conformance.EngineConformance):
    """A node that is the only one sees what a node of its own engine sees."""

    def setup_method(self) -> None:
        self.stores: dict[Path, SharedStore] = {}
        self.chance = Chance(1)

    async def open_engine(self, place: Path) -> Engine:
        engine = SharedMemoryEngine(self.stores.setdefault(place, SharedStore(SystemClock())), self.chance)
        await engine.join(NodeInfo("alone", "127.0.0.1:1"), 60.0)
        return engine


class InMemory(SharedConformance):
    """On the seeded loop, with the engine of `kind`."""

    kind: type[SharedMemoryEngine] = SharedMemoryEngine

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        run(work, seed=1)

    async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
        store, chance = SharedStore(current_clock()), Chance(7)
        return [self.kind(store, chance) for _ in range(count)]


class TestShared(InMemory):
    """The engine as it is."""


def test_a_failover_fences_what_was_claimed_before() -> None:
    """What was claimed in an earlier generation of the store commits no more, though nobody else has claimed it."""

    async def scenario() -> None:
        store = SharedStore(current_clock())
        engine = SharedMemoryEngine(store, Chance(7))
        await engine.join(node(0), 6.0)
        before = await conformance.claimed(engine, CART)
        assert await engine.commit([before.turn({b"k": b"v"})]) == [True]
        store.generation += 1
        assert await engine.commit([before.turn({b"k": b"w"})]) == [False]
        with pytest.raises(LeaseLost):  # what the node remembers may be more than the store has
            await engine.renew()
        await engine.join(node(0), 6.0)
        after = await conformance.claimed(engine, CART)
        assert after.claim.epoch > before.claim.epoch
        assert await engine.commit([after.turn({b"k": b"w"})]) == [True]

    run(scenario())


class IgnoresLeases(SharedMemoryEngine):
    """Takes what another owns."""

    def _check_claim(self, actor: ActorId) -> None:
        if self._owner and self.store.live_owner(actor.text) == self._owner:
            super()._check_claim(actor)


class WaitsForRelease(SharedMemoryEngine):
    """Takes nothing from the dead."""

    def _check_claim(self, actor: ActorId) -> None:
        owner = self.store.owners.get(actor.text, NOBODYS).owner
        super()._check_claim(actor)
        assert owner in {0, self._owner}, "its owner has not released it"


class ForgetsOwners(SharedMemoryEngine):
    """Refuses by the sequence alone."""

    def _follows(self, commit: Commit) -> bool:
        stored = self.store.actors.get(commit.actor.text)
        return commit.seq == (0 if stored is None else stored.last.seq) + 1


class AsksTheClock(SharedMemoryEngine):
    """Refuses a commit of an owner whose lease is over."""

    def _follows(self, commit: Commit) -> bool:
        return self.store.live_owner(commit.actor.text) == self._owner and super()._follows(commit)


class KeepsItsIncarnation(SharedMemoryEngine):
    """Joins anew as who it was."""

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        before = self._owner
        await super().join(info, lease_s, takes_name=takes_name, is_draining=is_draining)
        if before:
            row = self.store.nodes.pop(self._owner)
            self._owner = before
            self.store.enrol(msgspec.structs.replace(row, incarnation=before))


class AlwaysTakesNames(SharedMemoryEngine):
    """Ends whoever lives under its name, whatever it was asked."""

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        await super().join(info, lease_s, is_draining=is_draining)


class ForgetsMarks(SharedMemoryEngine):
    """Takes the word of who wakes, whatever is stored."""

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        await super().join(info, lease_s, takes_name=takes_name)
        self.store.enrol(msgspec.structs.replace(self.store.nodes[self._owner], is_draining=is_draining))


class ReleasesAnybodys(SharedMemoryEngine):
    """Does not ask whose an actor is that it releases."""

    async def release(self, actor: ActorId, epoch: int) -> None:
        self.store.own(actor.text, Ownership(0, epoch))


class FiresEverything(SharedMemoryEngine):
    """Takes every alarm for its own."""

    def _fires(self, text: str, sharing: list[int]) -> bool:
        return True


class FiresOwnedOnly(SharedMemoryEngine):
    """Leaves orphans to others, as all do."""

    def _fires(self, text: str, sharing: list[int]) -> bool:
        return self._owner in sharing and self.store.live_owner(text) == self._owner


class FiresSlicesOfOwned(SharedMemoryEngine):
    """Shares out the alarms of actors that have an owner, too."""

    def _fires(self, text: str, sharing: list[int]) -> bool:
        return self._owner in sharing and sharing[len(text) % len(sharing)] == self._owner


class SharesWithAll(SharedMemoryEngine):
    """Hears from nobody that it is cut off."""

    async def renew(self, *, is_cut_off: bool | None = None) -> Any:
        return await super().renew()


class LeavesNothing(SharedMemoryEngine):
    """Keeps its lease when it leaves."""

    async def leave(self) -> None:
        self._owner = 0


class RenewsTheDead(SharedMemoryEngine):
    """Prolongs a lease that was over."""

    async def renew(self, *, is_cut_off: bool | None = None) -> Any:
        row = self.store.nodes.get(self._owner)
        if row is not None:
            self.store.enrol(msgspec.structs.replace(row, expires_s=self.store.clock.elapsed_s() + 1))
        return await super().renew(is_cut_off=is_cut_off)


BROKEN: tuple[type[SharedMemoryEngine], ...] = (
    IgnoresLeases,
    WaitsForRelease,
    ForgetsOwners,
    AsksTheClock,
    KeepsItsIncarnation,
    AlwaysTakesNames,
    ForgetsMarks,
    ReleasesAnybodys,
    FiresEverything,
    FiresOwnedOnly,
    FiresSlicesOfOwned,
    SharesWithAll,
    LeavesNothing,
    RenewsTheDead,
)


@pytest.mark.parametrize("broken", BROKEN)
def test_the_suite_finds_broken_engines(broken: type[SharedMemoryEngine], tmp_path: Path) -> None:
    """Each planted bug fails at least one test of the suite that is not the random one, and far from all."""

    class Suite(InMemory):
        kind = broken

    failed = []
    names = [name for name in sorted(dir(Suite)) if name.startswith("test_") and name != "test_owners_change"]
    for name in names:
        try:
            getattr(Suite(), name)(tmp_path / name)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a broken engine makes of a test
            failed.append(name)
    assert failed
    assert len(failed) < len(names) / 2, f"it should be one bug, not a broken engine altogether: {failed}"
