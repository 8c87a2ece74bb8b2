"""`MemoryEngine`: the contract in dictionaries, for tests.

A `MemoryStore` is what would be on the disk; an engine is one opening of it. Dropping an engine without closing it is a crash: the
store keeps what was committed and nothing else. The engine opened last owns the store, and an earlier one can neither claim nor
commit. Nothing runs in a thread and nothing suspends, so a test on a deterministic loop repeats exactly.

The fence is the store's: it knows who owns each actor and with which epoch. The high bits of an epoch are the *generation* of the
store in which it was claimed, and one of an earlier generation commits no more: here each opening begins one, in `shared.py` each
failover.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from stead.errors import EngineFailed
from stead.ids import ActorId
from stead.storage.contract import BATCH_COMMITS_MAX, LOAD_BYTES_MAX, ActorRow, AlarmRow, Claim, Commit, Verdict

CLAIM_BITS = 32  # of an epoch; what is above them is its generation


class Ownership(msgspec.Struct, frozen=True):
    """Who may commit for an actor: the owner (0: nobody), under an epoch."""

    owner: int = 0
    epoch: int = 0


NOBODYS = Ownership()


class MemoryActor:
    """One actor as stored."""

    def __init__(self, commit: Commit) -> None:
        self.last = commit
        self.created_ms = commit.at_ms
        self.entries: dict[bytes, bytes] = {}
        self.alarms: dict[str, int] = {}


class MemoryStore:
    """What survives a crash. `apply` and `own` are all that changes it."""

    def __init__(self) -> None:
        self.generation = 0
        self.owners: dict[str, Ownership] = {}  # by id
        self.actors: dict[str, MemoryActor] = {}
        self.ids: list[str] = []  # sorted
        self.alarms: list[tuple[int, str, str]] = []  # due_ms, id, name; sorted

    def own(self, text: str, ownership: Ownership) -> None:
        self.owners[text] = ownership

    def apply(self, commit: Commit) -> None:
        text = commit.actor.text
        if text not in self.actors:
            self.actors[text] = MemoryActor(commit)
            insort(self.ids, text)
        actor = self.actors[text]
        actor.last = commit
        if commit.erase:
            actor.entries.clear()
            for name in list(actor.alarms):
                self._set_alarm(text, name, None)
        for key, value in commit.writes.items():
            if value is None:
                actor.entries.pop(key, None)
            else:
                actor.entries[key] = value
        for name, due_ms in commit.alarms.items():
            self._set_alarm(text, name, due_ms)

    def _set_alarm(self, text: str, name: str, due_ms: int | None) -> None:
        alarms = self.actors[text].alarms
        before_ms = alarms.pop(name, None)
        if before_ms is not None:
            del self.alarms[bisect_left(self.alarms, (before_ms, text, name))]
        if due_ms is not None:
            alarms[name] = due_ms
            insort(self.alarms, (due_ms, text, name))


class MemoryEngine:
    """One opening of `store`; a new store if none is given."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self._owner = self._begin()
        self._is_closed = False

    @property
    def flights(self) -> int:
        return 1

    async def claim(self, actor: ActorId) -> Claim:
        self._check_open()
        self._check_claim(actor)
        epoch = 1 + max(self._ownership(actor).epoch, self.store.generation << CLAIM_BITS)
        self.store.own(actor.text, Ownership(self._owner, epoch))
        stored = self.store.actors.get(actor.text)
        if stored is None:
            return Claim(epoch, 0, 0, {}, self.store.generation)
        size_bytes = stored.last.size_bytes
        entries = None if size_bytes > LOAD_BYTES_MAX else dict(stored.entries)
        return Claim(epoch, stored.last.seq, size_bytes, entries, self.store.generation)

    async def release(self, actor: ActorId, epoch: int) -> None:
        self._check_open()
        if self._ownership(actor) == Ownership(self._owner, epoch):
            self.store.own(actor.text, Ownership(0, epoch))

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        self._check_open()
        assert len(batch) <= BATCH_COMMITS_MAX, f"a batch holds {BATCH_COMMITS_MAX} commits at most"
        refused: set[tuple[str, int]] = set()  # a refused commit refuses that claim's later ones
        verdicts = []
        for commit in batch:
            claim = (commit.actor.text, commit.epoch)
            verdicts.append(claim not in refused and self._follows(commit))
            if verdicts[-1]:
                self.store.apply(commit)
            else:
                refused.add(claim)
        return verdicts

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        entries = self._entries(actor)
        return {key: entries[key] for key in keys if key in entries}

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        entries = self._entries(actor)
        keys = sorted((key for key in entries if start <= key and (end is None or key < end)), reverse=reverse)
        return [(key, entries[key]) for key in keys[:limit]]

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        self._check_open()
        alarms = self._alarms()
        found = alarms[: min(limit, bisect_right(alarms, before_ms, key=lambda alarm: alarm[0]))]
        return [AlarmRow(due_ms, self.store.actors[text].last.actor, name) for due_ms, text, name in found]

    async def next_due_ms(self) -> int | None:
        self._check_open()
        alarms = self._alarms()
        return alarms[0][0] if alarms else None

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        self._check_open()
        return list(islice(self._listed(unit, prefix, after), limit))

    async def close(self) -> None:
        self._is_closed = True

    def _begin(self) -> int:
        """Who owns what this engine claims."""
        self.store.generation += 1
        return self.store.generation

    def _check_claim(self, actor: ActorId) -> None:
        """Raise if `actor` cannot be claimed now."""
        if self._owner != self.store.generation:
            raise EngineFailed("another engine has been opened over this store: it owns all of it")

    def _alarms(self) -> list[tuple[int, str, str]]:
        """Those of this engine to fire, sorted."""
        return self.store.alarms

    def _ownership(self, actor: ActorId) -> Ownership:
        return self.store.owners.get(actor.text, NOBODYS)

    def _listed(self, unit: str | None, prefix: str, after: str) -> Iterator[ActorRow]:
        for text in islice(self.store.ids, bisect_right(self.store.ids, after), None):
            stored = self.store.actors[text]
            last, actor = stored.last, stored.last.actor
            if last.size_bytes and unit in {None, actor.unit} and (actor.name or "").startswith(prefix):
                yield ActorRow(actor, last.epoch, last.seq, last.size_bytes, stored.created_ms, last.at_ms)

    def _entries(self, actor: ActorId) -> dict[bytes, bytes]:
        self._check_open()
        stored = self.store.actors.get(actor.text)
        return {} if stored is None else stored.entries

    def _follows(self, commit: Commit) -> bool:
        stored = self.store.actors.get(commit.actor.text)
        return (
            self._ownership(commit.actor) == Ownership(self._owner, commit.epoch)
            and commit.epoch >> CLAIM_BITS == self.store.generation
            and commit.seq == (0 if stored is None else stored.last.seq) + 1
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineFailed("this memory engine is closed: open another over its store")
