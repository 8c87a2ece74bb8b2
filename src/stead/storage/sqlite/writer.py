"""The writer: one thread, one connection, one transaction and one flush for each batch.

The thread shares the interpreter lock with the event loop, and every statement lets go of it and waits to have it back, up to
5 ms each time while the loop is busy on another core. So a batch is folded into final rows first and written with as few statements
as can be: the usual batch (new values of known actors) is one upsert of many rows that is its own transaction.

A statement exists in sizes of 1, 2, 4 … ROWS_MAX rows; a batch takes the next larger one and fills it up with a row it has
already, which changes nothing. So few statements stay prepared, and one step writes any number of rows.

A batch that fails is rolled back whole and answered with its error; the writer goes on with the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import apsw
import msgspec

from stead.storage.contract import Commit
from stead.storage.sqlite.failure import failure
from stead.storage.sqlite.schema import HEAD, INLINE_BYTES_MAX

ROWS_MAX = 256  # in one statement: a batch of 64 requests has some 130
Row = tuple[object, ...]


class Owner:
    """Who may commit for an actor, and what its next commit must follow. `epoch` 0: nobody any more.

    The event loop sets `epoch`, `pending` and `waiters`; the writer sets `seq` and `number`, and only while `pending` is not 0.
    """

    __slots__ = ("epoch", "number", "pending", "seq", "waiters")

    def __init__(self) -> None:
        self.epoch = 0
        self.seq = 0
        self.number: int | None = None  # None: the actor has no row yet
        self.pending = 0  # commits handed to the writer and not yet answered
        self.waiters: list[asyncio.Future[None]] = []  # for `pending` to be 0


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Commits on their way to the disk; `owners` has None where a commit is already refused."""

    commits: Sequence[Commit]
    owners: Sequence[Owner | None]
    done: asyncio.Future[Sequence[bool]]


Settle = Callable[[Batch, Sequence[bool], BaseException | None], None]


class ManyRows:
    """One statement for any number of rows: `before`, rows of `width` parameters, `after`. Writing a row twice must be harmless."""

    def __init__(self, before: str, width: int, after: str) -> None:
        row = f"({','.join('?' * width)})"
        self._sizes = [1 << power for power in range(ROWS_MAX.bit_length())]
        self._texts = [f"{before} {','.join([row] * size)} {after}" for size in self._sizes]

    def execute(self, connection: apsw.Connection, rows: list[Row]) -> None:
        """Write `rows`. The last one is the one repeated: let it be small."""
        for start in range(0, len(rows), ROWS_MAX):
            part = rows[start : start + ROWS_MAX]
            rung = (len(part) - 1).bit_length()
            part += [part[-1]] * (self._sizes[rung] - len(part))
            connection.execute(self._texts[rung], tuple(chain.from_iterable(part)))


NEW_ACTORS = ManyRows("INSERT INTO actors (number, id, created_ms) VALUES", 3, "ON CONFLICT (number) DO NOTHING")
PUT_LARGE = ManyRows("INSERT INTO large (number, value) VALUES", 2, "ON CONFLICT (number) DO NOTHING")
PUT_ENTRIES = ManyRows("INSERT INTO entries (actor, key, value) VALUES", 3, "ON CONFLICT DO UPDATE SET value = excluded.value")
DROP_ENTRIES = ManyRows("DELETE FROM entries WHERE (actor, key) IN (VALUES", 2, ")")
PUT_ALARMS = ManyRows("INSERT INTO alarms (actor, name, due_ms) VALUES", 3, "ON CONFLICT DO UPDATE SET due_ms = excluded.due_ms")
DROP_ALARMS = ManyRows("DELETE FROM alarms WHERE (actor, name) IN (VALUES", 2, ")")
ERASE_ENTRIES = ManyRows("DELETE FROM entries WHERE actor IN (VALUES", 1, ")")
ERASE_ALARMS = ManyRows("DELETE FROM alarms WHERE actor IN (VALUES", 1, ")")
IN_ORDER = (NEW_ACTORS, ERASE_ENTRIES, ERASE_ALARMS, DROP_ENTRIES, DROP_ALARMS, PUT_ALARMS, PUT_LARGE, PUT_ENTRIES)


class Change:
    """A batch as the rows it comes to. Statements run in the order of IN_ORDER: erasing comes before writing.

    `next_large` is the number of the next large value.
    """

    def __init__(self, next_large: int) -> None:
        self.statements: dict[ManyRows, list[Row]] = {statement: [] for statement in IN_ORDER}
        self.next_large = next_large
        self._heads: list[Row] = []

    def add(self, number: int, commit: Commit) -> None:
        """What `commit` does, which is all that happens to its actor in this batch."""
        rows = self.statements
        if commit.erase:
            rows[ERASE_ENTRIES].append((number,))
            rows[ERASE_ALARMS].append((commit.actor.text,))
        put, drop = rows[PUT_ENTRIES], rows[DROP_ENTRIES]
        for key, value in commit.writes.items():
            if value is None:
                if not commit.erase:
                    drop.append((number, key))
            elif len(value) <= INLINE_BYTES_MAX:
                put.append((number, key, value))
            else:
                rows[PUT_LARGE].append((self.next_large, value))
                put.append((number, key, self.next_large))
                self.next_large += 1
        for name, due_ms in commit.alarms.items():
            if due_ms is not None:
                rows[PUT_ALARMS].append((commit.actor.text, name, due_ms))
            elif not commit.erase:
                rows[DROP_ALARMS].append((commit.actor.text, name))
        self._heads.append((number, 0, HEAD.pack(commit.size_bytes, commit.seq, commit.epoch, commit.at_ms)))

    def write(self, connection: apsw.Connection) -> None:
        """Make it durable in one transaction."""
        self.statements[PUT_ENTRIES] += self._heads  # last, because a head is small and may be repeated
        work = [(statement, rows) for statement, rows in self.statements.items() if rows]
        if len(work) == 1 and len(work[0][1]) <= ROWS_MAX:
            work[0][0].execute(connection, work[0][1])  # one statement is a transaction of its own
            return
        connection.execute("BEGIN IMMEDIATE")
        for statement, rows in work:
            statement.execute(connection, rows)
        connection.execute("COMMIT")


class Writer:
    """Takes batches in `submit` and answers each through `settle`, called in the event loop that waits for `batch.done`."""

    def __init__(self, connection: apsw.Connection, path: Path, settle: Settle) -> None:
        self._connection = connection
        self._path = path
        self._settle = settle
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()  # bounded by who submits: it waits for the answers
        self._next_number = int(connection.execute("SELECT coalesce(max(number), 0) + 1 FROM actors").get)
        self._next_large = int(connection.execute("SELECT coalesce(max(number), 0) + 1 FROM large").get)
        self._thread = threading.Thread(target=self._run, name="stead-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        self._queue.put(batch)

    def join(self) -> None:
        """Write what was submitted and end the thread; the connection stays open."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            verdicts, error = self._attempt(batch)
            try:
                batch.done.get_loop().call_soon_threadsafe(self._settle, batch, verdicts, error)
            except RuntimeError:  # the loop was closed without us: nobody is left to tell
                return

    def _attempt(self, batch: Batch) -> tuple[Sequence[bool], BaseException | None]:
        try:
            return self._write(batch), None
        except apsw.Error as exc:
            error: BaseException = failure(exc, self._path)
            error.__cause__ = exc
        except BaseException as exc:  # noqa: BLE001 - it belongs to who waits for the batch; the thread must not die of it
            error = exc
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as exc:
            error.add_note(f"the rollback failed as well: {exc}")
        return (), error

    def _write(self, batch: Batch) -> Sequence[bool]:
        final: dict[Owner, Commit] = {}
        created_ms: dict[Owner, int] = {}
        refused: set[Owner] = set()
        verdicts = []
        for owner, commit in zip(batch.owners, batch.commits, strict=True):
            if owner is None or owner in refused:
                verdicts.append(False)
                continue
            before = final.get(owner)
            follows = commit.seq == (owner.seq if before is None else before.seq) + 1
            verdicts.append(follows)
            if not follows:
                refused.add(owner)
            elif before is not None:
                final[owner] = _in_one(before, commit)
            else:
                final[owner] = commit
                if owner.number is None:
                    created_ms[owner] = commit.at_ms
        if final:
            self._store(final, created_ms)
        return verdicts

    def _store(self, final: dict[Owner, Commit], created_ms: dict[Owner, int]) -> None:
        change = Change(self._next_large)
        numbers = dict(zip(created_ms, range(self._next_number, self._next_number + len(created_ms)), strict=True))
        for owner, number in numbers.items():
            change.statements[NEW_ACTORS].append((number, final[owner].actor.text, created_ms[owner]))
        for owner, commit in final.items():
            change.add(numbers[owner] if owner.number is None else owner.number, commit)
        change.write(self._connection)
        self._next_number += len(numbers)
        self._next_large = change.next_large
        for owner, commit in final.items():
            owner.seq = commit.seq
        for owner, number in numbers.items():
            owner.number = number


def _in_one(first: Commit, second: Commit) -> Commit:
    """The commit that does what `first` and then `second` do."""
    return Commit(
        actor=second.actor,
        epoch=second.epoch,
        seq=second.seq,
        writes=second.writes if second.erase else {**first.writes, **second.writes},
        alarms=second.alarms if second.erase else {**first.alarms, **second.alarms},
        size_bytes=second.size_bytes,
        at_ms=second.at_ms,
        erase=first.erase or second.erase,
    )
