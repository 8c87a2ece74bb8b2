"""A SQLite file as the SQL of an actor: the opposite of an export, in one commit.

The file is copied into the form that an actor's pages have (page size, no write-ahead log), which also reads every page of it,
before anything else happens. Then one commit erases the actor and writes the pages: who looks sees the old database or the new one.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw

from stead.admin.export import Progress
from stead.errors import Invalid
from stead.storage.entries import PAGE, PAGE_COUNT
from stead.storage.sql import PAGE_BYTES, pack

IMPORT_BYTES_MAX = 512 * 1024 * 1024  # of a database: it is one commit, and in memory as one
BACKUP_PAGES = 2_000  # copied between two looks at the progress
LOOK_STEPS = 1_000_000  # of SQLite's machine between two such looks
_SQLITE_START = b"SQLite format 3\0"
_STEAD_TABLES = ("stead_keys", "stead_attributes", "stead_alarms")  # which an export of an actor adds


def prepare_database(source: Path, target: Path, progress: Progress = lambda size_bytes: None) -> None:
    """Write the database in `source`, a SQLite file or a dump in SQL, to the new file `target` in the form for an import.

    `progress` is told, now and then, how many bytes have been written. Raises `Invalid` for a file that is neither, is damaged, or
    is too large. `source` is not touched.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        with closing(apsw.Connection(str(partial))) as connection:
            connection.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            connection.set_progress_handler(lambda: _told(progress, partial), LOOK_STEPS)
            _fill(connection, source, progress)
            damage = connection.execute("PRAGMA quick_check(1)").get
            if damage != "ok":
                raise Invalid(f"the database in {source} is damaged: {damage}")
            for table in _STEAD_TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = FULL")
            connection.execute("VACUUM INTO ?", (str(target),))
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"{source} cannot be read: {exc}") from exc
    except apsw.Error as exc:
        raise Invalid(f"{source} is no SQLite database and no dump of one: {exc}") from exc
    finally:
        partial.unlink(missing_ok=True)
    size_bytes = target.stat().st_size
    if size_bytes > IMPORT_BYTES_MAX:
        raise Invalid(f"{source} has {size_bytes:,} bytes; the limit of an import is {IMPORT_BYTES_MAX:,}")


def _fill(connection: apsw.Connection, source: Path, progress: Progress) -> None:
    with source.open("rb") as file:
        is_database = file.read(len(_SQLITE_START)) == _SQLITE_START
    if not is_database:
        connection.execute(source.read_text("utf-8")).fetchall()  # to the end, whatever rows it gives
        if connection.in_transaction:
            raise Invalid(f"{source} ends in the middle of a transaction")
        return
    with (
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as original,
        connection.backup("main", original, "main") as backup,
    ):
        while not backup.step(BACKUP_PAGES):
            progress((backup.page_count - backup.remaining) * PAGE_BYTES)


def _told(progress: Progress, file: Path) -> bool:
    """Tell the progress, and let the statement go on."""
    progress(file.stat().st_size)
    return False


def page_entries(file: Path) -> dict[bytes, bytes]:
    """The pages of a prepared database, as an actor's entries. Raises `Invalid` if it is none."""
    entries: dict[bytes, bytes] = {}
    if not file.is_file():
        raise Invalid(f"there is no {file}; `stead db import` puts it there")
    data = file.read_bytes()
    if not data.startswith(_SQLITE_START) or len(data) % PAGE_BYTES or len(data) > IMPORT_BYTES_MAX:
        raise Invalid("this is no database as `stead db import` sends it")
    for number in range(len(data) // PAGE_BYTES):
        entries[PAGE + number.to_bytes(4, "big")] = pack(data[number * PAGE_BYTES : (number + 1) * PAGE_BYTES])
    entries[PAGE_COUNT] = (len(data) // PAGE_BYTES).to_bytes(4, "big")
    return entries
