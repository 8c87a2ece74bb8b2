"""The tables of the database file, and how an older file becomes a current one.

    actors   number, id, created_ms      who there is; the number stands for the id in every key
    entries  actor, key, value           blob keys: the actor's entries; the key 0: its *head* (see `HEAD`)
    large    number, value               values over INLINE_BYTES_MAX, for which `entries` has the number; triggers drop the unused
    alarms   actor, name, due_ms         the index of what is due
    engine   generation, opened_ms       one row; the generation is the upper half of every epoch handed out

The head holds what each commit changes in the registry. It lies beside the actor's entries because a commit then dirties one page
instead of two: with many actors that halves both the log and the time of a commit. An integer key sorts before all blobs, so no
range of keys ever meets it.

Large values lie elsewhere, because to compare a row of `entries` with the key that it looks for SQLite reads the row whole: among
values of 64 KiB, finding a small one cost as much as reading ten of them.

`PRAGMA user_version` counts the steps that have been applied. A step is never changed once released, only followed by another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import apsw

from stead.errors import EngineFailed
from stead.storage.sqlite.failure import damaged

APPLICATION_ID = 0x53746561  # "Stea": marks the file as ours
PAGE_BYTES = 4096  # of 1, 2, 4 and 8 KiB: larger pages cost more log for each small commit, smaller ones chop SQL pages up

INLINE_BYTES_MAX = 2 * PAGE_BYTES  # a value in `entries`: an SQL page fits, and is dearer elsewhere

HEAD = struct.Struct(">QQQQ")  # size_bytes, seq, epoch, active_ms; size first and big-endian, so that SQL can compare it
HEAD_HOLDS_ANYTHING = b"\0" * 7 + b"\1"  # every head of at least this has size_bytes > 0

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE engine (generation INTEGER NOT NULL, opened_ms INTEGER NOT NULL);
    INSERT INTO engine VALUES (0, 0);
    CREATE TABLE actors (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL);
    CREATE TABLE entries (actor INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (actor, key))
        WITHOUT ROWID;
    CREATE TABLE alarms (actor TEXT NOT NULL, name TEXT NOT NULL, due_ms INTEGER NOT NULL, PRIMARY KEY (actor, name))
        WITHOUT ROWID;
    CREATE INDEX alarms_by_time ON alarms (due_ms, actor, name);
    """,
    """
    CREATE TABLE large (number INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TRIGGER large_replaced AFTER UPDATE OF value ON entries
        WHEN typeof(old.value) = 'integer' AND old.value IS NOT new.value
        BEGIN DELETE FROM large WHERE number = old.value; END;
    CREATE TRIGGER large_deleted AFTER DELETE ON entries WHEN typeof(old.value) = 'integer'
        BEGIN DELETE FROM large WHERE number = old.value; END;
    """,
)


def check_version(connection: apsw.Connection, path: Path, steps: Sequence[str] = STEPS) -> int:
    """How many of `steps` the file has. Raises `EngineFailed` for a file of a newer release or of another application."""
    version = int(connection.pragma("user_version"))
    owner = int(connection.pragma("application_id"))
    if owner != APPLICATION_ID and (owner or version or connection.execute("SELECT 1 FROM sqlite_schema").get):
        raise EngineFailed(f"{path} is a SQLite database of another application: give another directory with --data")
    if version > len(steps):
        raise EngineFailed(
            f"{path} has schema version {version} and this release of Stead knows up to {len(steps)}: install the release "
            "that wrote it, or a later one"
        )
    return version


def migrate(connection: apsw.Connection, path: Path, steps: Sequence[str] = STEPS) -> None:
    """Apply the steps the file lacks, each one whole or not at all. An empty file becomes a current one."""
    for version in range(check_version(connection, path, steps), len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(steps[version])
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", version + 1)
            connection.execute("COMMIT")
        except apsw.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def check_pages(connection: apsw.Connection, path: Path) -> None:
    """Walk every page of the file. Raises `EngineFailed` naming the first fault."""
    found = connection.execute("PRAGMA quick_check(1)").get
    if found != "ok":
        raise damaged(path, str(found))
