"""Moving every actor from one engine to another, and finding out whether all of it arrived.

A `Source` gives what it holds as a stream of parts; a `Target` takes parts, and shows nothing of them to anyone before `publish`.
`move` copies the one into the other, then reads both, side by side, and compares a digest of each actor. Only what is equal is
published. Nothing is held in memory but some parts, however large an actor is or how many there are.

An actor's *history* moves with its entries and alarms, also where it holds nothing any more: signals are numbered by `seq`, and
one that began again would be taken for a repetition. Epochs do not move. They fence what the engine that handed them out
has claimed, and nobody has claimed anything of a new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from stead.errors import EngineFailed

PART_BYTES = 1024 * 1024  # of entries in one part; one more entry may be in it
PART_ROWS = 4096  # entries, or alarms, in one part
_DIGEST_BYTES = 32


class History(msgspec.Struct, frozen=True):
    """An actor and what became of it so far: its line in the registry, without the epoch."""

    id: str
    seq: int
    size_bytes: int
    created_ms: int
    active_ms: int


class Part(msgspec.Struct, frozen=True):
    """Something of one actor. All parts of an actor follow each other, and `begins` is set in the first.

    Over its parts the entries are in the order of their keys, the alarms in that of their names, both by bytes.
    """

    history: History
    begins: bool
    entries: Sequence[tuple[bytes, bytes]]
    alarms: Sequence[tuple[str, int]]  # name, due_ms

    @property
    def size_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self.entries)


class Totals(msgspec.Struct, frozen=True):
    """What a source has: actors that ever committed, their commits, and the bytes of their entries."""

    actors: int
    commits: int
    size_bytes: int


class Source(Protocol):
    """An engine that nobody serves, to be copied from. Every method raises `EngineFailed` when the medium fails."""

    async def totals(self) -> Totals: ...

    def parts(self) -> AsyncIterator[Part]:
        """All there is, in an order that is the same each time."""
        ...

    async def check_unchanged(self) -> None:
        """Raise `EngineFailed` if somebody may have written since the source was opened."""
        ...

    async def close(self) -> None: ...


class Target(Protocol):
    """An empty engine, to be filled. Every method raises `EngineFailed` when the medium fails."""

    async def write(self, part: Part) -> None: ...

    def parts(self) -> AsyncIterator[Part]:
        """What was written, in that order, as the medium gives it back."""
        ...

    async def publish(self) -> None:
        """Make it what a server finds here, durably, in one step."""
        ...

    async def close(self) -> None:
        """Let go. What was not published is never seen; whoever opens the target next begins anew."""
        ...


class Moved(msgspec.Struct, frozen=True):
    """What was moved. `digest` is the same for the same actors, in whatever engine and order."""

    actors: int
    entries: int
    alarms: int
    size_bytes: int
    digest: str


class Progress(Protocol):
    """Is told how many more bytes have been copied, and how many have been compared."""

    def copied(self, size_bytes: int) -> None: ...
    def compared(self, size_bytes: int) -> None: ...


async def move(source: Source, target: Target, progress: Progress) -> Moved:
    """Copy all of `source` into `target`, compare, and publish it.

    Raises `EngineFailed`, naming the actor, if one is not the same in the copy; then nothing is published.
    """
    async for part in source.parts():
        await target.write(part)
        progress.copied(part.size_bytes)
    moved = await compare(source.parts(), target.parts(), progress.compared)
    await source.check_unchanged()
    await target.publish()
    return moved


async def compare(
    originals: AsyncIterator[Part], copies: AsyncIterator[Part], compared: Callable[[int], None] = lambda size_bytes: None
) -> Moved:
    """What the originals come to, once the copies have been found equal. Raises `EngineFailed` naming an actor that is not."""
    found = summaries(copies)
    actors = entries = alarms = size_bytes = total = 0
    async for original in summaries(originals):
        copy = await anext(found, None)
        if copy is None or copy.history.id != original.history.id:
            raise _differs(f"the copy lacks {original.history.id}")
        if copy != original:
            what = ", ".join(name for name in ("history", "entries", "alarms") if getattr(copy, name) != getattr(original, name))
            raise _differs(f"{original.history.id} is not the same in the copy ({what})")
        actors, entries, alarms = actors + 1, entries + original.entry_count, alarms + original.alarm_count
        size_bytes += original.history.size_bytes
        total += original.number()
        compared(original.history.size_bytes)
    extra = await anext(found, None)
    if extra is not None:
        raise _differs(f"the copy has {extra.history.id}, which is not there to be copied")
    return Moved(actors, entries, alarms, size_bytes, (total % (1 << 8 * _DIGEST_BYTES)).to_bytes(_DIGEST_BYTES, "big").hex())


def _differs(what: str) -> EngineFailed:
    return EngineFailed(f"{what}: nothing was published. Run it again; if it comes to the same, check the disks of both sides")


class Summary(msgspec.Struct, frozen=True):
    """One actor: its history, and digests of its entries and alarms."""

    history: History
    entries: bytes
    entry_count: int
    alarms: bytes
    alarm_count: int

    def number(self) -> int:
        """The digest of all of it, as a number: those of several actors can be added in any order."""
        data = msgspec.msgpack.encode((self.history, self.entries, self.alarms))
        return int.from_bytes(blake2b(data, digest_size=_DIGEST_BYTES).digest(), "big")


async def summaries(parts: AsyncIterator[Part]) -> AsyncIterator[Summary]:
    """One for each actor, in the order of the parts."""
    open_: _Summing | None = None
    async for part in parts:
        if part.begins:
            if open_ is not None:
                yield open_.summary()
            open_ = _Summing(part.history)
        assert open_ is not None and open_.history == part.history, "the parts of an actor follow each other"
        open_.add(part)
    if open_ is not None:
        yield open_.summary()


class _Summing:
    """The summary of an actor whose parts come one after the other."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._entries, self._entry_count = blake2b(digest_size=_DIGEST_BYTES), 0
        self._alarms, self._alarm_count = blake2b(digest_size=_DIGEST_BYTES), 0

    def add(self, part: Part) -> None:
        for key, value in part.entries:
            self._entries.update(b"%d:%d:%b" % (len(key), len(value), key))
            self._entries.update(value)
        for name, due_ms in part.alarms:
            encoded = name.encode()
            self._alarms.update(b"%d:%d:%b" % (len(encoded), due_ms, encoded))
        self._entry_count += len(part.entries)
        self._alarm_count += len(part.alarms)

    def summary(self) -> Summary:
        return Summary(self.history, self._entries.digest(), self._entry_count, self._alarms.digest(), self._alarm_count)


class Ordered:
    """Rows in the order of their first field, to be taken by it."""

    def __init__(self, rows: AsyncIterator[tuple[Any, ...]], what: str) -> None:
        self._rows = rows
        self._what = what
        self._next: tuple[Any, ...] | None = None
        self._is_begun = False

    async def of(self, mark: Any) -> AsyncIterator[tuple[Any, ...]]:
        """The rows that begin with `mark`, larger than every earlier one. Raises `EngineFailed` for rows that nobody has taken."""
        if not self._is_begun:
            self._is_begun = True
            await self._advance()
        while self._next is not None and self._next[0] <= mark:
            if self._next[0] < mark:
                raise self._ownerless()
            row = self._next
            await self._advance()
            yield row

    async def check_over(self) -> None:
        """Raise `EngineFailed` if there are rows that nobody has taken."""
        if self._next is not None or (not self._is_begun and await anext(self._rows, None) is not None):
            raise self._ownerless()

    async def _advance(self) -> None:
        self._next = await anext(self._rows, None)

    def _ownerless(self) -> EngineFailed:
        return EngineFailed(
            f"there are {self._what} of an actor that is not in the registry: the database is damaged; restore a backup"
        )


async def in_parts(histories: AsyncIterator[tuple[int, History]], entries: Ordered, alarms: Ordered) -> AsyncIterator[Part]:
    """The parts of actors that have a number, in its order.

    Rows of entries are (number, key, value), those of alarms (number, name, due_ms).
    """
    async for number, history in histories:
        begins = True
        batch: list[tuple[bytes, bytes]] = []
        size_bytes = 0
        async for _, key, value in entries.of(number):
            batch.append((key, value))
            size_bytes += len(key) + len(value)
            if size_bytes >= PART_BYTES or len(batch) == PART_ROWS:
                yield Part(history, begins, batch, ())
                begins, batch, size_bytes = False, [], 0
        due: list[tuple[str, int]] = []
        async for _, name, due_ms in alarms.of(number):
            due.append((name, due_ms))
            if len(due) == PART_ROWS:
                yield Part(history, begins, batch, due)
                begins, batch, due = False, [], []
        if begins or batch or due:
            yield Part(history, begins, batch, due)
    await entries.check_over()
    await alarms.check_over()
