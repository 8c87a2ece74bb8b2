"""A data directory to be copied from (`SqliteSource`), and one to be filled (`SqliteTarget`). See `storage/transfer.py`.

The locks are held from the opening on, of every share too, so nobody serves it meanwhile. A target is built in a directory `moving`
inside its own, without waiting for the disk, then flushed as a whole and put in its place by a rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import apsw

from stead.errors import EngineFailed
from stead.storage.sqlite.failure import failure
from stead.storage.sqlite.file import BUILDING, FILE_NAME, DatabaseFile
from stead.storage.sqlite.layout import share_directory, shares_of, sync_directory
from stead.storage.sqlite.lock import DirectoryLock
from stead.storage.sqlite.schema import HEAD, INLINE_BYTES_MAX
from stead.storage.transfer import History, Ordered, Part, Totals, in_parts

FLUSH_BYTES = 8 * 1024 * 1024  # of one transaction
FLUSH_ROWS = 50_000

_HISTORIES = "SELECT number, id, created_ms, value FROM actors JOIN entries ON actor = number AND key = 0 ORDER BY number"
_ENTRIES = (
    "SELECT actor, key, CASE typeof(value) WHEN 'blob' THEN value "
    "ELSE (SELECT large.value FROM large WHERE number = entries.value) END "
    "FROM entries WHERE key >= x'' ORDER BY actor, key"
)
# CROSS JOIN: actors first, so that the order is the one of two indexes and nothing is sorted.
_ALARMS = "SELECT number, name, due_ms FROM actors CROSS JOIN alarms ON alarms.actor = id ORDER BY number, name"
_STRAY_ALARMS = "SELECT 1 FROM alarms WHERE actor NOT IN (SELECT id FROM actors) LIMIT 1"


class SqliteSource:
    """A data directory that nobody serves. Made by `open`."""

    def __init__(self, data: Path, files: list[DatabaseFile], locks: ExitStack) -> None:
        self._data = data
        self._files = files
        self._locks = locks

    @classmethod
    def open(cls, data: Path) -> Self:
        """Raises `EngineFailed` where there is no database, a process uses it, or it has to be migrated first."""
        if not data.is_dir():
            raise EngineFailed(f"there is no data directory {data}")
        with ExitStack() as undo:
            files = [DatabaseFile(place) for place in places(data)]
            for file in files:
                file.check_presence(must_exist=True)
            with _failures(data):
                for place in sorted({data, *places(data)}):
                    undo.callback(DirectoryLock(place).release)
            for file in files:
                file.open_reader().close()  # so that what cannot be read is said now
            return cls(data, files, undo.pop_all())

    async def totals(self) -> Totals:
        actors = commits = size_bytes = 0
        for file in self._files:
            with _reading(file) as connection:
                for *_, head in connection.execute(_HISTORIES):
                    size, seq, *_ = HEAD.unpack(head)
                    actors, commits, size_bytes = actors + 1, commits + seq, size_bytes + size
        return Totals(actors, commits, size_bytes)

    async def parts(self) -> AsyncIterator[Part]:
        for file in self._files:
            with _reading(file) as connection:
                async for part in _parts(connection):
                    yield part

    async def check_unchanged(self) -> None:
        """The lock sees to it."""

    async def close(self) -> None:
        self._locks.close()


class SqliteTarget:
    """A data directory without actors. Made by `open`."""

    def __init__(self, data: Path, lock: DirectoryLock) -> None:
        self._data = data
        self._lock = lock
        self._file = DatabaseFile(data / BUILDING)
        self._connection: apsw.Connection | None = None
        self._number = 0  # of the actor that came last
        self._large = 0
        self._bytes = self._rows = 0  # of the transaction that is open

    @classmethod
    def open(cls, data: Path) -> Self:
        """Raises `EngineFailed` if a process uses the directory, or it holds actors."""
        with ExitStack() as undo, _failures(data):
            data.mkdir(parents=True, exist_ok=True)
            lock = DirectoryLock(data)
            undo.callback(lock.release)
            _check_empty(data)
            shutil.rmtree(data / BUILDING, ignore_errors=True)
            (data / BUILDING).mkdir()
            target = cls(data, lock)
            target._file.prepare(deep_check=False)
            target._connection = target._file.open_writer()
            target._connection.pragma("synchronous", "OFF")  # the file is flushed before anything names it
            undo.pop_all()
        return target

    async def write(self, part: Part) -> None:
        connection = self._connection
        assert connection is not None, "what was read back is not written to any more"
        with _failures(self._data):
            if not connection.in_transaction:
                connection.execute("BEGIN")
            history = part.history
            if part.begins:
                self._number += 1
                connection.execute("INSERT INTO actors VALUES (?, ?, ?)", (self._number, history.id, history.created_ms))
                head = HEAD.pack(history.size_bytes, history.seq, 0, history.active_ms)
                connection.execute("INSERT INTO entries VALUES (?, 0, ?)", (self._number, head))
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", (self._entry(key, value) for key, value in part.entries))
            connection.executemany(
                "INSERT INTO alarms VALUES (?, ?, ?)", ((history.id, name, due_ms) for name, due_ms in part.alarms)
            )
            self._bytes += part.size_bytes
            self._rows += 1 + len(part.entries) + len(part.alarms)
            if self._bytes >= FLUSH_BYTES or self._rows >= FLUSH_ROWS:
                self._end_transaction()

    async def parts(self) -> AsyncIterator[Part]:
        self._flush()
        with _failures(self._data):
            connection = self._file.open_writer()  # whose end takes the log away; one that only reads leaves it
            try:
                async for part in _parts(connection):
                    yield part
            finally:
                connection.close()

    async def publish(self) -> None:
        self._flush()
        with _failures(self._data):
            present = DatabaseFile(self._data)
            if present.path.exists():
                present.open_writer().close()  # one without actors: its log must not be taken for the new one's
            for name in (FILE_NAME, "made"):
                (self._data / BUILDING / name).replace(self._data / name)
            sync_directory(self._data)
            shutil.rmtree(self._data / BUILDING)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        shutil.rmtree(self._data / BUILDING, ignore_errors=True)
        self._lock.release()

    def _entry(self, key: bytes, value: bytes) -> tuple[int, bytes, Any]:
        if len(value) <= INLINE_BYTES_MAX:
            return self._number, key, value
        assert self._connection is not None
        self._large += 1
        self._connection.execute("INSERT INTO large VALUES (?, ?)", (self._large, value))
        return self._number, key, self._large

    def _end_transaction(self) -> None:
        assert self._connection is not None
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._bytes = self._rows = 0

    def _flush(self) -> None:
        """Have everything in the file, and the file on the disk."""
        if self._connection is None:
            return
        with _failures(self._data):
            self._end_transaction()
            self._connection.close()  # which copies the log into the file
            self._connection = None
            with self._file.path.open("rb+") as written:
                os.fsync(written.fileno())
            sync_directory(self._file.path.parent)


def places(data: Path) -> list[Path]:
    """The directories of a data directory's databases: one, or as many as there are workers that divide it."""
    count = shares_of(data)
    return [share_directory(data, index, count) for index in range(count)]


async def _parts(connection: apsw.Connection) -> AsyncIterator[Part]:
    if connection.execute(_STRAY_ALARMS).get:
        raise EngineFailed("there are alarms of an actor that is not in the registry: the database is damaged; restore a backup")
    entries, alarms = Ordered(_rows(connection, _ENTRIES), "entries"), Ordered(_rows(connection, _ALARMS), "alarms")
    async for part in in_parts(_histories(connection), entries, alarms):
        yield part


async def _histories(connection: apsw.Connection) -> AsyncIterator[tuple[int, History]]:
    for number, text, created_ms, head in connection.execute(_HISTORIES):
        size_bytes, seq, _, active_ms = HEAD.unpack(head)
        yield number, History(text, seq, size_bytes, created_ms, active_ms)


async def _rows(connection: apsw.Connection, query: str) -> AsyncIterator[tuple[Any, ...]]:
    for row in connection.execute(query):
        yield row


@contextmanager
def _reading(file: DatabaseFile) -> Iterator[apsw.Connection]:
    connection = file.open_reader()
    try:
        with _failures(file.path):
            yield connection
    finally:
        connection.close()


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as exc:
        raise failure(exc, path) from exc
    except OSError as exc:
        raise EngineFailed(f"{path} cannot be used: {exc}") from exc


def _check_empty(data: Path) -> None:
    if len(places(data)) > 1:
        raise EngineFailed(f"{data} is divided among workers: give a new directory")
    file = DatabaseFile(data)
    file.check_presence()
    if file.path.exists():
        with _reading(file) as connection:
            if connection.execute("SELECT 1 FROM actors LIMIT 1").get:
                raise EngineFailed(f"{data} has actors already, and nothing is overwritten: give a new directory")
