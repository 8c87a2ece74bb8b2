"""One actor as a normal SQLite file: its own SQL pages as they are, and tables of its keys, attributes and alarms beside them.

The actor may be running. If it committed while it was read, the reading begins again, so that the file shows it as it was after one
commit. The file is written under another name and takes its own when it is complete: a file that is there is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from stead.admin.reading import find_row, read_batches
from stead.admin.views import json_text
from stead.errors import Invalid, SteadError, Unavailable
from stead.ids import ActorId
from stead.storage.contract import Engine
from stead.storage.entries import ALARM, ATTRIBUTE, PAGE, USER
from stead.storage.sql import PAGE_BYTES, unpack

READS_MAX = 5  # of an actor that goes on committing

Progress = Callable[[int], None]
"""Told how many more bytes were read."""

Rows = list[tuple[bytes, bytes]]

_TABLES = (("stead_keys", "key", USER), ("stead_attributes", "name", ATTRIBUTE), ("stead_alarms", "name", ALARM))


async def export_actor(engine: Engine, actor: ActorId, path: Path, progress: Progress = lambda size_bytes: None) -> None:
    """Write `actor` to the new file `path`. Raises `Invalid` if there is such a file or no such actor."""
    with new_file(path) as partial:
        for _ in range(READS_MAX):
            before = await find_row(engine, actor)
            try:
                await _write(engine, actor, partial, progress)
            except apsw.Error as exc:
                raise SteadError(f"{actor} cannot be exported to {path}: {exc}") from exc
            if (await find_row(engine, actor)).seq == before.seq:
                return
        raise Unavailable(f"{actor} commits faster than it can be read; try again when it is quieter")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well. Raises `Invalid` if `path` exists or cannot be written."""
    if path.exists():
        raise Invalid(f"{path} exists, and an export never overwrites; choose another name or remove it")
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.rename(path)
    except OSError as exc:
        raise Invalid(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        partial.unlink(missing_ok=True)


async def _write(engine: Engine, actor: ActorId, path: Path, progress: Progress) -> None:
    path.write_bytes(b"")
    async for rows in read_batches(engine, actor, PAGE):
        await asyncio.to_thread(_append_pages, path, rows)
        progress(_size_bytes(rows))
    with apsw.Connection(str(path)) as connection:  # one transaction
        for table, column, prefix in _TABLES:
            create = f"CREATE TABLE {table} ({column} TEXT PRIMARY KEY, value TEXT, raw BLOB) WITHOUT ROWID"
            if prefix == USER:
                connection.execute(create)
            async for rows in read_batches(engine, actor, prefix):
                if prefix != USER and not connection.table_exists("main", table):
                    connection.execute(create)
                await asyncio.to_thread(_insert, connection, table, rows)
                progress(_size_bytes(rows))


def _append_pages(path: Path, rows: Rows) -> None:
    with path.open("r+b") as file:
        for key, packed in rows:
            file.seek(page_offset(key))
            file.write(unpack(packed))


def page_offset(key: bytes) -> int:
    """Where in a database file the page with this entry key stands."""
    return int.from_bytes(key[len(PAGE) :], "big") * PAGE_BYTES


def _insert(connection: apsw.Connection, table: str, rows: Rows) -> None:
    connection.executemany(
        f"INSERT INTO {table} VALUES (?, ?, ?)", ((key[1:].decode(), json_text(key, raw), raw) for key, raw in rows)
    )


def _size_bytes(rows: Rows) -> int:
    return sum(len(key) + len(value) for key, value in rows)
