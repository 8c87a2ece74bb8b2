"""A pycrdt document that knows what changed in it.

It is closed: it never holds an update that builds on another which it has not got. pycrdt would keep such a one aside and say
nothing of it; what it later makes of it is in none of the changes that it reports, so a log of these would not be the document.
The update is refused instead (`Gap`), and who sent it has the rest.

How deep types are inside each other is bounded. What is known of it is a bound, too, which each type that is made raises by one;
where that bound is not low enough the document is looked through, which it is once for many types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pycrdt

from stead.yjs.protocol import Malformed, Reader
from stead.yjs.update import LEVEL_BYTES_MIN, depth, read_update

TYPES_DEPTH_MAX = 1000  # inside each other; yrs overflows its stack at some 30,000, when it deletes them
TYPES_UNSEEN_MAX = 1000  # that may be made, each inside of the one before, until the document is looked through
_NOTHING = b"\0\0"  # an update without changes


class Unusable(Exception):
    """An update was taken in part, so the document must be made anew from what was before it."""


class Gap(Unusable):
    """The update builds on others that the document has not got."""


class Torn(Unusable):
    """pycrdt failed at it in the middle, whatever came before."""


def is_panic(error: BaseException) -> bool:
    """Whether pycrdt's Rust code panicked: its exception is no `Exception`, and its class cannot be imported."""
    return type(error).__name__ == "PanicException"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """pycrdt's errors as ours: it raises `ValueError` for bytes that it cannot decode, before it does anything."""
    try:
        yield
    except (Malformed, Unusable):
        raise
    except ValueError as exc:
        raise Malformed(f"this is no {what}") from exc
    except BaseException as exc:
        if isinstance(exc, Exception) or is_panic(exc):
            raise Torn(f"this {what} cannot be used") from exc
        raise


class Document:
    """The document that `updates` make. `on_stray` hears of changes that neither `apply` nor `edit` made."""

    def __init__(self, updates: Iterable[bytes], on_stray: Callable[[], Any]) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._changes: list[bytes] = []
        self._editing = 0
        self._on_stray = on_stray
        size_bytes = 0
        for update in updates:
            self.doc.apply_update(update)
            size_bytes += len(update)
        self._depth: int | None = size_bytes // LEVEL_BYTES_MIN  # it is no more than that, if anything is known
        self.doc.observe(self._changed)

    def _changed(self, event: pycrdt.TransactionEvent) -> None:
        change = event.update
        if change != _NOTHING:
            self._changes.append(change)
            if not self._editing:
                self._on_stray()

    def state(self) -> bytes:
        """The state vector: how much the document has of each client."""
        return self.doc.get_state()

    def update(self, state: bytes | None = None) -> bytes:
        """The document as one update, or what is beyond a state vector. Raises `Malformed` or `Torn` for one that is none."""
        if state is not None:
            Reader(state).count("clients")  # pycrdt would make room for them first, for gigabytes
        with _translated("state vector"):
            return self.doc.get_update(state)

    def apply(self, update: bytes) -> bytes | None:
        """Take an update. Returns what it changed, None if all of it was known. Raises `Malformed`, `Gap` or `Torn`."""
        depth = self._depth_with(update)
        with self, _translated("update"):
            self.doc.apply_update(update)
            change = self.changes()
            # What is left over shows only where the change is not the update as it came.
            if change != update and self._lacks(update):
                raise Gap("this update builds on others that are not here")
        self._depth = depth
        return change

    def _depth_with(self, update: bytes) -> int | None:
        """A bound of the depth that an update makes. Raises `Malformed` for one that must not come near pycrdt."""
        types = read_update(update)
        if types == 0:
            return self._depth
        if self._depth is not None and self._depth + types <= TYPES_DEPTH_MAX + TYPES_UNSEEN_MAX:
            return self._depth + types
        with _translated("update"):
            exact = depth(self.doc.get_update(), pycrdt.get_update(update, self.state()))  # of what is known the update may lie
        if exact > TYPES_DEPTH_MAX:
            raise Malformed(f"types are nested {exact:,} deep; the limit is {TYPES_DEPTH_MAX:,}")
        return exact

    def __enter__(self) -> None:
        """What changes until `__exit__` is meant to."""
        self._editing += 1

    def __exit__(self, *_: object) -> None:
        self._editing -= 1
        self._depth = None

    def changes(self) -> bytes | None:
        """What has changed since the last call, as one update."""
        changes, self._changes = self._changes, []
        if len(changes) < 2:
            return changes[0] if changes else None
        return pycrdt.merge_updates(*changes)

    def _lacks(self, update: bytes) -> bool:
        """Whether something of an update that was applied is not in the document."""
        state = self.state()
        rest = Reader(pycrdt.get_update(update, state))
        if rest.varuint():  # clients of whom it holds what the document has not got
            return True
        known = _counts(state)
        for _ in range(rest.varuint()):  # clients, and of each the ranges that were deleted
            client = rest.varuint()
            for _ in range(rest.varuint()):
                if rest.varuint() + rest.varuint() > known.get(client, 0):
                    return True
        return False


def _counts(state: bytes) -> dict[int, int]:
    reader = Reader(state)
    return {reader.varuint(): reader.varuint() for _ in range(reader.varuint())}
