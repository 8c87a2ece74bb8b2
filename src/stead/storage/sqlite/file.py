"""The database file in its directory: made once, checked at each start, never silently made again.

A file `made` beside the database is written after the first start. From then on a database that is missing or empty is a loss to
report, not a reason to start empty.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from stead.errors import EngineFailed
from stead.storage.sqlite.failure import damaged, failure
from stead.storage.sqlite.schema import PAGE_BYTES, STEPS, check_pages, check_version, migrate

FILE_NAME = "stead.sqlite"
BUILDING = "moving"  # a directory beside it, while it is filled from another engine (`transfer.py`)
CHECK_BYTES_MAX = 8 * 1024 * 1024  # a file up to this size is walked at every start (some 20 ms); a larger one on demand
WAL_PAGES = 4096  # the log is copied back past 16 MiB: seldom enough to merge rewrites, often enough to take few milliseconds
WAL_BYTES_KEPT = 2 * WAL_PAGES * PAGE_BYTES  # a log that grew larger for once is cut to this
BUSY_MS = 2_000  # only a recovery of the log, at another process's start, makes anyone wait
WRITER_CACHE_KIB = 64 * 1024  # the pages of some 100,000 small actors
READER_CACHE_KIB = 8 * 1024  # dropped by SQLite at the first read after each commit, hence small
_MAGIC = b"SQLite format 3\0"


class DatabaseFile:
    """`stead.sqlite` in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._wal = directory / f"{FILE_NAME}-wal"
        self._made = directory / "made"

    def prepare(self, *, deep_check: bool) -> None:
        """Make the file if there never was one, check it, and bring its schema up to date."""
        self.check_presence()
        building = self.path.with_name(BUILDING)
        if building.exists() and not self.path.exists():  # what is to come is not all there, and must not begin empty
            raise EngineFailed(
                f"{self.path.parent} was being filled by `stead migrate-engine` when that was interrupted: run it again to its "
                f"end, or remove {building} to start empty"
            )
        try:
            connection = self.open_writer()
            try:
                migrate(connection, self.path)
                if deep_check or self.path.stat().st_size <= CHECK_BYTES_MAX:
                    check_pages(connection, self.path)
            finally:
                connection.close()
        except apsw.Error as exc:
            raise failure(exc, self.path) from exc
        self._mark_made()

    def check_presence(self, *, must_exist: bool = False) -> None:
        """Raises `EngineFailed` where the file is missing, empty or cut short though there was one."""
        size_bytes = self.path.stat().st_size if self.path.exists() else 0
        wal_bytes = self._wal.stat().st_size if self._wal.exists() else 0
        if size_bytes == 0 and (wal_bytes or self._made.exists()):
            traces = self._made if self._made.exists() else self._wal
            raise EngineFailed(
                f"{self.path} is missing or empty, but {traces} says that there was a database. Restore it from a backup; "
                f"to start empty on purpose, remove {self._made} and {self._wal}"
            )
        if size_bytes == 0 and must_exist:
            raise EngineFailed(f"there is no database at {self.path}: is this the data directory of a server that ran?")
        if size_bytes:
            self._check_header(size_bytes, wal_bytes)

    def _check_header(self, size_bytes: int, wal_bytes: int) -> None:
        with self.path.open("rb") as file:
            header = file.read(100)
        if header[:16] != _MAGIC or len(header) < 100:
            raise damaged(self.path, "its header is not that of a SQLite database")
        page_bytes = int.from_bytes(header[16:18], "big")
        expected = int.from_bytes(header[28:32], "big") * (65536 if page_bytes == 1 else page_bytes)
        # With a log beside it, a file that is too short can be a copying-back that was interrupted: SQLite completes it.
        if size_bytes < expected and not wal_bytes:
            raise damaged(self.path, f"it has {size_bytes:,} bytes of {expected:,}")

    def open_writer(self, size_bytes_max: int | None = None) -> apsw.Connection:
        """A connection whose commits are durable when they return. Raises `EngineFailed` for a file that is not ours to write."""
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_MS)
        check_version(connection, self.path)  # before the journal mode, which is written into the file
        connection.pragma("page_size", PAGE_BYTES)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL")
        connection.pragma("wal_autocheckpoint", WAL_PAGES)
        connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        connection.pragma("cache_size", -WRITER_CACHE_KIB)
        if size_bytes_max is not None:
            connection.pragma("max_page_count", max(1, size_bytes_max // PAGE_BYTES))
        return connection

    def open_reader(self) -> apsw.Connection:
        """A connection that only reads. Raises `EngineFailed` if the file's schema is not the current one."""
        try:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(BUSY_MS)
            connection.pragma("cache_size", -READER_CACHE_KIB)
            version = check_version(connection, self.path)
        except apsw.Error as exc:
            raise failure(exc, self.path) from exc
        if version < len(STEPS):
            connection.close()
            raise EngineFailed(f"{self.path} has schema version {version} of {len(STEPS)}: start the server once to migrate it")
        return connection

    def _mark_made(self) -> None:
        if self._made.exists():
            return
        with self._made.open("w") as file:
            file.write(f"{FILE_NAME} was made here; without it this directory has lost its data\n")
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
