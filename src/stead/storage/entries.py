"""An actor's entries as its activation sees them: what is committed, and what is on its way to be.

A small actor is held whole, so reads never leave memory. A larger one is read by key through a bounded cache; what is not durable
yet is pinned there, because the engine does not know it.

Keys begin with a byte that says whose they are, so the parts of an actor cannot touch each other:
`k` user keys, `a` durable attributes, `t` alarms, `p` SQL pages, `n` the number of SQL pages, `o` signals to be delivered, `d`
signals that arrived, `i` results by idempotency key, `j` when those may be forgotten.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from stead.ids import ActorId
from stead.storage.contract import LOAD_BYTES_MAX, Claim, Engine

USER, ATTRIBUTE, ALARM, PAGE, PAGE_COUNT = b"k", b"a", b"t", b"p", b"n"
OUTBOX, SEEN, RESULT, EXPIRY = b"o", b"d", b"i", b"j"

WHOLE_BYTES_MAX = 4 * LOAD_BYTES_MAX  # a resident actor that grows past this is read by key from then on
CACHE_BYTES_MAX = LOAD_BYTES_MAX  # of an actor that is read by key
REORDER_KEYS_MAX = 100  # of one commit: more are sorted together, when next scanned


def range_end(prefix: bytes) -> bytes | None:
    """The first key after all that begin with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class Layer:
    """Writes that are not part of the entries yet: a turn's, or those of a transaction inside it."""

    __slots__ = ("alarms", "erased", "writes")

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.alarms: dict[str, int | None] = {}
        self.erased = False

    def __bool__(self) -> bool:
        return bool(self.writes) or self.erased or bool(self.alarms)

    def erase(self) -> None:
        self.writes.clear()
        self.alarms.clear()
        self.erased = True

    def merge(self, other: Layer) -> None:
        """Take over what `other`, which came later, wrote."""
        if other.erased:
            self.erase()
        self.writes.update(other.writes)
        self.alarms.update(other.alarms)


class Entries:
    """One actor's entries. `size_bytes` counts keys and values, pending ones included."""

    __slots__ = (
        "_actor",
        "_cache",
        "_engine",
        "_learned",
        "_order",
        "_pinned",
        "_version",
        "_whole_until",
        "cached_bytes",
        "size_bytes",
        "whole",
    )

    def __init__(self, actor: ActorId, claim: Claim, engine: Engine) -> None:
        self._actor = actor
        self._engine = engine
        self.whole = claim.entries is not None
        self.size_bytes = claim.size_bytes
        self._cache: dict[bytes, bytes | None] = dict(claim.entries) if claim.entries is not None else {}
        self.cached_bytes = sum(_weight(key, value) for key, value in self._cache.items())
        self._order: list[bytes] | None = None  # of an actor held whole: its keys, sorted, once they were scanned
        self._pinned: dict[bytes, int] = {}  # of an actor read by key: the commit that must be durable before a key may be dropped
        self._version = 0  # counts changes, to see that there was none while the engine was asked
        self._learned: dict[bytes, int] = {}  # of keys that are not cached: the size of what the next commit replaces
        self._whole_until: int | None = None  # of an actor that has grown too large: the commit after which it is read by key

    async def get(self, key: bytes, layers: Sequence[Layer]) -> bytes | None:
        if self.knows(key, layers):
            return self.known(key, layers)
        return (await self._fetch([key])).get(key)

    def knows(self, key: bytes, layers: Sequence[Layer]) -> bool:
        """Whether `known` can answer without asking the engine."""
        return self.whole or key in self._cache or any(key in layer.writes or layer.erased for layer in layers)

    def known(self, key: bytes, layers: Sequence[Layer]) -> bytes | None:
        for layer in reversed(layers):
            if key in layer.writes:
                return layer.writes[key]
            if layer.erased:
                return None
        return self._cache.get(key)

    async def get_many(self, keys: Sequence[bytes], layers: Sequence[Layer]) -> dict[bytes, bytes]:
        missing = [] if self.whole else [key for key in keys if key not in self._cache]
        found = await self._fetch(missing) if missing else {}
        values: dict[bytes, bytes] = {}
        for key in keys:
            value = found[key] if key in found else await self.get(key, layers)
            for layer in layers:
                value = layer.writes.get(key, None if layer.erased else value)
            if value is not None:
                values[key] = value
        return values

    async def scan(
        self, start: bytes, end: bytes | None, layers: Sequence[Layer], *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """What is in start <= key < end, as a snapshot."""
        pending: dict[bytes, bytes | None] = {} if self.whole else {key: self._cache[key] for key in self._pinned}
        known = False
        for layer in layers:
            if layer.erased:
                pending.clear()
                known = True
            pending.update(layer.writes)
        inside = {key: value for key, value in pending.items() if start <= key and (end is None or key < end)}
        if not known:
            # A pending write hides at most one row of those below it, so this many more are enough to fill the limit.
            more = None if limit is None else limit + len(inside)
            if self.whole:
                below = self._cached(start, end, reverse=reverse, limit=more)
            else:
                version = self._version
                below = await self._engine.scan(self._actor, start, end, reverse=reverse, limit=more)
                if limit is not None and version == self._version:
                    self._remember_read(below)
            inside = {**dict(below), **inside}
        rows = sorted(((key, value) for key, value in inside.items() if value is not None), reverse=reverse)
        return rows if limit is None else rows[:limit]

    def _cached(self, start: bytes, end: bytes | None, *, reverse: bool, limit: int | None) -> list[tuple[bytes, bytes]]:
        """As the engine's `scan`, of an actor that is held whole."""
        if self._order is None:
            self._order = sorted(key for key, value in self._cache.items() if value is not None)
        order = self._order
        first = bisect_left(order, start)
        last = len(order) if end is None else bisect_left(order, end, first)
        if limit is not None and reverse:
            first = max(first, last - limit)
        elif limit is not None:
            last = min(last, first + limit)
        return [(key, value) for key in order[first:last] if (value := self._cache[key]) is not None]

    def unlearned(self, layer: Layer) -> list[bytes]:
        """The keys whose present size must be learned before `size_after` can tell."""
        if self.whole or layer.erased:
            return []
        return [key for key in layer.writes if key not in self._cache and key not in self._learned]

    async def learn(self, keys: Sequence[bytes]) -> None:
        """Ask the engine what size `keys` have now; known until the next commit."""
        version = self._version
        found = await self._engine.read(self._actor, keys)
        if version == self._version:
            self._learned.update({key: len(key) + len(found[key]) if key in found else 0 for key in keys})

    def size_after(self, layer: Layer) -> int:
        """What `size_bytes` would be with `layer` applied."""
        size_bytes = 0 if layer.erased else self.size_bytes
        cache = {} if layer.erased else self._cache
        for key, value in layer.writes.items():
            before = cache.get(key)
            if before is not None:
                size_bytes -= len(key) + len(before)
            elif self._learned and not layer.erased:
                size_bytes -= self._learned.get(key, 0)
            if value is not None:
                size_bytes += len(key) + len(value)
        return size_bytes

    def apply(self, layer: Layer, size_bytes: int, seq: int) -> None:
        """Make `layer` part of the entries, as commit `seq`, before it is durable."""
        self._version += 1
        self._learned.clear()
        if layer.erased:
            self._cache.clear()
            self._pinned.clear()
            self.cached_bytes = 0
            self.whole, self._whole_until, self._order = True, None, None
        if self.whole and self._whole_until is None:
            self._apply_whole(layer, size_bytes, seq)
        else:
            self._order = None
            for key, value in layer.writes.items():
                self._forget(key)
                self._remember(key, value)
                self._pinned[key] = seq
        self.size_bytes = size_bytes

    def _apply_whole(self, layer: Layer, size_bytes: int, seq: int) -> None:
        cache = self._cache
        if self._order is not None:
            self._reorder(self._order, layer)
        for key, value in layer.writes.items():
            if value is not None:
                cache[key] = value
            else:
                cache.pop(key, None)
        self.cached_bytes = size_bytes  # nothing else is cached
        if size_bytes > WHOLE_BYTES_MAX:
            # Until this commit is durable the engine knows keys that are deleted here: it cannot be asked yet.
            self._whole_until = seq

    def _reorder(self, order: list[bytes], layer: Layer) -> None:
        """Keep the keys sorted when `layer` will be applied."""
        if len(layer.writes) > REORDER_KEYS_MAX:
            self._order = None
            return
        for key, value in layer.writes.items():
            if (value is not None) != (key in self._cache):
                if value is None:
                    del order[bisect_left(order, key)]
                else:
                    insort(order, key)

    def settle(self, seq: int) -> None:
        """Commits up to `seq` are durable: what they wrote may be dropped from the cache."""
        if self._whole_until is not None and seq >= self._whole_until:
            self.whole, self._whole_until, self._order = False, None, None
        if self._pinned:
            for key in [key for key, pin in self._pinned.items() if pin <= seq]:
                del self._pinned[key]
        if not self.whole:
            self._trim()

    async def _fetch(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        version = self._version
        found = await self._engine.read(self._actor, wanted)
        if version == self._version:
            for key in wanted:
                self._forget(key)
                self._remember(key, found.get(key))
            self._trim()
        return found

    def _remember_read(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Whoever reads on from where it was mostly writes or deletes what it read: then its size is known."""
        for key, value in rows:
            if key not in self._cache:
                self._remember(key, value)
        self._trim()

    def _remember(self, key: bytes, value: bytes | None) -> None:
        self._cache[key] = value
        self.cached_bytes += _weight(key, value)

    def _forget(self, key: bytes) -> None:
        if key in self._cache:
            self.cached_bytes -= _weight(key, self._cache.pop(key))

    def _trim(self) -> None:
        """Drop what was remembered first until the cache is within its bound. What is pinned stays."""
        excess_bytes = self.cached_bytes - CACHE_BYTES_MAX
        if excess_bytes <= 0:
            return
        dropped = []
        for key, value in self._cache.items():
            if key not in self._pinned:
                dropped.append(key)
                excess_bytes -= _weight(key, value)
                if excess_bytes <= 0:
                    break
        for key in dropped:
            self._forget(key)


def _weight(key: bytes, value: bytes | None) -> int:
    """What an entry counts in the cache; that a key does not exist is remembered, and counts, too."""
    return len(key) + len(value or b"")
