"""A document's updates in an actor's storage, in the order they were applied.

    yjs:000000000007        an update
    yjs:000000000007.001    its next piece, where it is larger than a piece

The sequence is the document: a snapshot is an update like any other, one that stands for all before it. So compacting is to put one
update in the place of many, in the turn that found them too many: either all of it is durable, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stead.api import Storage

PIECE_BYTES = 1024 * 1024  # a stored value may have twice that
FOLD_UPDATES = 1000  # read anew at each start: some milliseconds
FOLD_BYTES = 1024 * 1024  # or as much as the snapshot, so that a large one is not written for each small change

_PREFIX = "yjs:"


class UpdateLog:
    """The stored updates of one actor. Only as right as the turns that it was used in: after one that failed, make a new one."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._last = 0  # the newest update's number
        self._base_bytes = 0  # of the oldest one, which is the snapshot if there is one
        self.updates = 0
        self.size_bytes = 0

    @property
    def tail_bytes(self) -> int:
        """What came after the snapshot."""
        return self.size_bytes - self._base_bytes

    async def load(self) -> list[bytes]:
        """All updates, oldest first."""
        stored = await self._storage.list(_PREFIX)
        updates = _joined(stored)
        self._last = int(list(stored)[-1][len(_PREFIX) :].partition(".")[0]) if stored else 0
        self._base_bytes = len(updates[0]) if updates else 0
        self.updates = len(updates)
        self.size_bytes = sum(map(len, updates))
        return updates

    async def is_current(self) -> bool:
        """Whether storage holds the newest update: not when a `storage.transaction()` took it back."""
        return self._last == 0 or await self._storage.get(_key(self._last)) is not None

    async def append(self, update: bytes) -> None:
        self._last += 1
        self.updates += 1
        self.size_bytes += len(update)
        await self._write(self._last, update)

    def should_fold(self, keep: int) -> bool:
        """Whether there is so much that folding all but the newest `keep` is worth it."""
        if self.updates <= keep + 1:
            return False
        return self.updates > keep + FOLD_UPDATES or (keep == 0 and self.tail_bytes > max(FOLD_BYTES, self._base_bytes))

    async def fold(self, keep: int, fold: Callable[[list[bytes]], bytes]) -> None:
        """Put one update, which `fold` makes of them, in the place of all but the newest `keep`."""
        into = self._last - keep
        old = await self._storage.list(_PREFIX, end=_key(into + 1))
        updates = _joined(old)
        base = fold(updates)
        await self._storage.delete_many(list(old))
        await self._write(into, base)
        self._base_bytes = len(base)
        self.updates = keep + 1
        self.size_bytes += len(base) - sum(map(len, updates))

    async def _write(self, number: int, update: bytes) -> None:
        await self._storage.put(_key(number), update[:PIECE_BYTES])
        for piece in range(1, -(-len(update) // PIECE_BYTES)):
            await self._storage.put(f"{_key(number)}.{piece:03}", update[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES])


def _key(number: int) -> str:
    return f"{_PREFIX}{number:012}"


def _joined(stored: Mapping[str, bytes]) -> list[bytes]:
    updates: list[list[bytes]] = []
    for key, piece in stored.items():
        if "." in key:
            updates[-1].append(piece)
        else:
            updates.append([piece])
    return [pieces[0] if len(pieces) == 1 else b"".join(pieces) for pieces in updates]
