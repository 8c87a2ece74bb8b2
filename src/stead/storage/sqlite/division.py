"""Dividing a data directory among another number of workers than before.

The new shares are built beside the old ones, checked and made durable; then `layout` changes, and only then the old ones go.
Whenever the process dies, the directory holds one whole set of shares that `layout` names, and the next start begins again.

Numbers stand for ids and for large values inside a database. Where shares come together, those of each are moved behind those
that are there already.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import apsw

from stead.errors import EngineFailed
from stead.storage.sqlite.failure import failure
from stead.storage.sqlite.file import FILE_NAME, DatabaseFile
from stead.storage.sqlite.layout import remove_others, share_directory, share_of, shares_of, sync_directory, write_layout
from stead.storage.sqlite.lock import DirectoryLock

ACTORS_AT_A_TIME = 2_000  # of one transaction, and between two steps of the progress

Progress = Callable[[int, int], None]
"""Is told how many actors have been moved, of how many."""

_COPY = (
    "INSERT INTO main.actors SELECT number + :actors, id, created_ms FROM old.actors WHERE {mine}",
    "INSERT INTO main.large SELECT number + :large, value FROM old.large WHERE number IN "
    "(SELECT e.value FROM old.entries e JOIN old.actors ON e.actor = number WHERE {mine} AND typeof(e.value) = 'integer')",
    "INSERT INTO main.entries "
    "SELECT e.actor + :actors, e.key, CASE typeof(e.value) WHEN 'integer' THEN e.value + :large ELSE e.value END "
    "FROM old.entries e JOIN old.actors ON e.actor = number WHERE {mine}",
    "INSERT INTO main.alarms SELECT a.actor, a.name, a.due_ms FROM old.alarms a JOIN old.actors ON a.actor = id WHERE {mine}",
)
_MINE = "number >= :first AND number < :end AND share(id) = :share"


def divide(data: Path, count: int, progress: Progress) -> None:
    """Have `data` in `count` shares, each with its database, whatever it was before. It must not be in use.

    Raises `EngineFailed` if it is, or if a database is damaged or of a newer release; then nothing has changed.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        before = shares_of(data)
        with ExitStack() as locks:
            old = [share_directory(data, index, before) for index in range(before)]
            for directory in old:
                directory.mkdir(parents=True, exist_ok=True)
                locks.callback(DirectoryLock(directory).release)
                DatabaseFile(directory).prepare(deep_check=False)
            if before != count:
                _build(data, old, count, progress)
                write_layout(data, count)
            remove_others(data, count)
    except apsw.Error as exc:
        raise failure(exc, data) from exc
    except OSError as exc:
        raise EngineFailed(f"the data directory {data} cannot be divided among {count} workers: {exc}") from exc


def _build(data: Path, old: Sequence[Path], count: int, progress: Progress) -> None:
    building = data / "shares.partial"
    shutil.rmtree(building, ignore_errors=True)
    total = sum(_count(directory, "SELECT count(*) FROM actors") for directory in old)
    moved = 0
    for index in range(count):
        share = building / str(index)
        share.mkdir(parents=True)
        DatabaseFile(share).prepare(deep_check=False)
        moved = _fill(share, old, index, count, partial(_report, progress, moved, total))
    for what in ("actors", "entries", "alarms", "large"):
        counts = [
            sum(_count(place, f"SELECT count(*) FROM {what}") for place in places) for places in (old, _parts(building, count))
        ]
        if counts[0] != counts[1]:
            raise EngineFailed(
                f"dividing {data} came to {counts[1]:,} rows of {what} instead of {counts[0]:,}; nothing was changed"
            )
    if count == 1:
        for name in (FILE_NAME, "made"):
            (building / "0" / name).replace(data / name)
        shutil.rmtree(building)
    else:
        target = data / f"shares-{count}"
        shutil.rmtree(target, ignore_errors=True)
        building.replace(target)
    sync_directory(data)


def _parts(building: Path, count: int) -> list[Path]:
    return [building / str(index) for index in range(count)]


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _count(directory: Path, query: str) -> int:
    connection = DatabaseFile(directory).open_reader()
    try:
        return int(connection.execute(query).get)
    finally:
        connection.close()


def _fill(share: Path, old: Sequence[Path], index: int, count: int, progress: Callable[[int], None]) -> int:
    """Copy into a share what is its own. Returns how many actors that are."""
    file = DatabaseFile(share)
    connection = file.open_writer()
    connection.pragma("synchronous", "OFF")  # the whole file is flushed at the end, before anything names it
    connection.create_scalar_function("share", lambda *values: share_of(str(values[0]), count), 1, deterministic=True)
    for directory in old:
        connection.execute("ATTACH ? AS old", (str(directory / FILE_NAME),))
        behind = {
            "actors": connection.execute("SELECT coalesce(max(number), 0) FROM main.actors").get,
            "large": connection.execute("SELECT coalesce(max(number), 0) FROM main.large").get,
            "share": index,
        }
        last = connection.execute("SELECT coalesce(max(number), 0) FROM old.actors").get
        for first in range(1, last + 1, ACTORS_AT_A_TIME):
            with connection:
                for statement in _COPY:
                    connection.execute(statement.format(mine=_MINE), {**behind, "first": first, "end": first + ACTORS_AT_A_TIME})
            progress(connection.execute("SELECT count(*) FROM main.actors").get)
        connection.execute(
            "UPDATE main.engine SET generation = max(generation, (SELECT generation FROM old.engine))"
        )  # so that epochs go on growing
        connection.execute("DETACH old")
    filled = int(connection.execute("SELECT count(*) FROM actors").get)
    connection.close()  # which copies the log into the file
    with file.path.open("rb+") as written:
        os.fsync(written.fileno())
    sync_directory(share)
    return filled
