"""The SQLite engine's file: who may open it, what is refused, what is never started over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.sqlite import SqliteEngine
from stead.storage.sqlite.file import FILE_NAME, DatabaseFile
from stead.storage.sqlite.schema import STEPS, check_version, migrate
from stead.testing.conformance import claimed, everything

CART = named_id("cart", "a")
HOLD_LOCK = """
import sys
from pathlib import Path
from stead.storage.sqlite.lock import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def with_engine(directory: Path, use: Callable[[SqliteEngine], Awaitable[None]], *, read_only: bool = False) -> None:
    async def run() -> None:
        engine = SqliteEngine.open(directory, SystemClock(), read_only=read_only)
        try:
            await use(engine)
        finally:
            await engine.close()

    asyncio.run(run())


async def store_one(engine: SqliteEngine) -> None:
    turns = await claimed(engine, CART)
    assert await engine.commit([turns.turn({b"k": b"v"}, alarms={"": 5})]) == [True]


async def store_much(engine: SqliteEngine) -> None:
    turns = await claimed(engine, CART)
    writes = {b"%04d" % number: bytes(1_000) for number in range(1_000)}
    assert await engine.commit([turns.turn(writes, size_bytes=1_000_000)]) == [True]


async def nothing(engine: SqliteEngine) -> None:
    """Open and close."""


def damage(path: Path, offset: int, size: int) -> bytes:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * size)
    return path.read_bytes()


def test_locked_directory_is_refused_and_named(tmp_path: Path) -> None:
    """A directory another process holds is refused with its pid and what to do; it opens when that process is gone."""
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EngineFailed, match=rf"{tmp_path} is in use by process {holder.pid}: stop that process"):
            SqliteEngine.open(tmp_path, SystemClock())
        holder.kill()
    with_engine(tmp_path, store_one)


def test_failed_opening_lets_go_of_the_lock(tmp_path: Path) -> None:
    """An opening that is refused leaves the directory free for the next one."""
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="is damaged"):
            SqliteEngine.open(tmp_path, SystemClock())
    (tmp_path / FILE_NAME).unlink()
    with_engine(tmp_path, store_one)


def test_unusable_directory_is_named(tmp_path: Path) -> None:
    """A file where a directory belongs, or the other way round, is refused as such, and no lock stays behind."""
    (tmp_path / "file").touch()
    with pytest.raises(EngineFailed, match="cannot be used"):
        SqliteEngine.open(tmp_path / "file", SystemClock())
    (tmp_path / FILE_NAME).mkdir()
    for read_only in (False, False, True):
        with pytest.raises(EngineFailed, match="cannot be used"):
            SqliteEngine.open(tmp_path, SystemClock(), read_only=read_only)


def test_flush_and_log_settings(tmp_path: Path) -> None:
    """The writing connection keeps a write-ahead log and flushes every commit."""
    connection = DatabaseFile(tmp_path).open_writer()
    assert (connection.pragma("journal_mode"), connection.pragma("synchronous")) == ("wal", 2)
    connection.close()


@pytest.mark.parametrize(("offset", "size"), [(0, 16), (0, 100), (4096, 4096), (5 * 4096, 8 * 4096)])
def test_damaged_file_is_refused_and_kept(tmp_path: Path, offset: int, size: int) -> None:
    """A damaged database is refused at the start, naming file and remedy, and is not touched."""
    with_engine(tmp_path, store_much)
    path = tmp_path / FILE_NAME
    before = damage(path, offset, size)
    with pytest.raises(EngineFailed, match=rf"{path} is damaged .*restore a backup.*\.recover"):
        SqliteEngine.open(tmp_path, SystemClock())
    assert path.read_bytes() == before


def test_damage_found_later_is_reported(tmp_path: Path) -> None:
    """Damage that appears while the engine is open is an EngineFailed of the read that meets it."""

    async def use(engine: SqliteEngine) -> None:
        damage(tmp_path / FILE_NAME, 4096, (tmp_path / FILE_NAME).stat().st_size - 4096)
        with pytest.raises(EngineFailed, match="is damaged"):
            await everything(engine, CART)

    with_engine(tmp_path, store_much)
    with_engine(tmp_path, use)


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    """A file shorter than its header says is refused without reading it whole."""
    with_engine(tmp_path, store_much)
    path = tmp_path / FILE_NAME
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(EngineFailed, match="bytes of"):
        SqliteEngine.open(tmp_path, SystemClock(), read_only=True)
    with pytest.raises(EngineFailed, match="bytes of"):
        SqliteEngine.open(tmp_path, SystemClock())


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: os.truncate(path, 0)])
def test_lost_file_is_never_made_again(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """Where there was a database, a missing or empty file is an error; only removing the traces starts empty."""
    with_engine(tmp_path, store_one)
    lose(tmp_path / FILE_NAME)
    with pytest.raises(EngineFailed, match="is missing or empty.*from a backup"):
        SqliteEngine.open(tmp_path, SystemClock())
    assert not (tmp_path / FILE_NAME).exists() or not (tmp_path / FILE_NAME).stat().st_size
    (tmp_path / "made").unlink()
    with_engine(tmp_path, store_one)


def test_log_without_its_file_is_refused(tmp_path: Path) -> None:
    """A write-ahead log alone says that there was a database."""
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"some commits")
    with pytest.raises(EngineFailed, match="is missing or empty"):
        SqliteEngine.open(tmp_path, SystemClock())


def test_restored_file_opens(tmp_path: Path) -> None:
    """A backup of the database file alone, put into a fresh directory, is all it takes."""
    with_engine(tmp_path / "old", store_one)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / FILE_NAME).write_bytes((tmp_path / "old" / FILE_NAME).read_bytes())

    async def use(engine: SqliteEngine) -> None:
        assert await everything(engine, CART) == {b"k": b"v"}

    with_engine(tmp_path / "new", use)


def test_other_applications_database_is_refused(tmp_path: Path) -> None:
    """A SQLite database that is not ours is refused, not migrated."""
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(EngineFailed, match="of another application"):
        SqliteEngine.open(tmp_path, SystemClock())


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a later release is refused with both versions, for reading too."""
    with_engine(tmp_path, store_one)
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.pragma("user_version", len(STEPS) + 1)
    connection.close()
    for read_only in (False, True):
        with pytest.raises(EngineFailed, match=f"schema version {len(STEPS) + 1} .* knows up to {len(STEPS)}"):
            SqliteEngine.open(tmp_path, SystemClock(), read_only=read_only)


def test_older_schema_migrates_step_by_step(tmp_path: Path) -> None:
    """A version-1 file gets the steps it lacks, in order, and keeps its rows; a current one is left alone."""
    path = tmp_path / FILE_NAME
    first = "CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('old')"
    later = (first, "ALTER TABLE things ADD COLUMN size INTEGER DEFAULT 1", "UPDATE things SET size = size + 41")
    connection = apsw.Connection(str(path))
    migrate(connection, path, (first,))
    assert check_version(connection, path, later) == 1
    for _ in range(2):
        migrate(connection, path, later)
        assert check_version(connection, path, later) == 3
        assert connection.execute("SELECT name, size FROM things").fetchall() == [("old", 42)]
    connection.close()


def test_failing_migration_leaves_the_file_at_the_step_before(tmp_path: Path) -> None:
    """A step that fails is undone whole; the steps before it stay."""
    path = tmp_path / FILE_NAME
    steps = ("CREATE TABLE one (x)", "CREATE TABLE two (x); SELECT nonsense")
    connection = apsw.Connection(str(path))
    with pytest.raises(apsw.SQLError):
        migrate(connection, path, steps)
    assert check_version(connection, path, steps) == 1
    assert not connection.table_exists(None, "two")
    connection.close()


def test_read_only_beside_a_running_engine(tmp_path: Path) -> None:
    """A reader needs no lock, sees each commit as it becomes durable, and can neither claim nor commit."""

    async def use(engine: SqliteEngine) -> None:
        await store_one(engine)
        reader = SqliteEngine.open(tmp_path, SystemClock(), read_only=True)
        assert await everything(reader, CART) == {b"k": b"v"}
        turns = await claimed(engine, CART)
        assert await engine.commit([turns.turn({b"k": b"w"})]) == [True]
        assert await reader.read(CART, [b"k"]) == {b"k": b"w"}
        assert [row.actor for row in await reader.actors("cart")] == [CART]
        assert await reader.next_due_ms() == 5
        with pytest.raises(EngineFailed, match="open for reading only"):
            await reader.claim(CART)
        with pytest.raises(EngineFailed, match="open for reading only"):
            await reader.commit([turns.turn({b"k": b"x"})])
        await reader.close()

    with_engine(tmp_path, use)


def test_read_only_on_a_stopped_directory(tmp_path: Path) -> None:
    """A stopped directory can be read, and a server can start while the reader has it open."""
    with_engine(tmp_path, store_one)

    async def use(reader: SqliteEngine) -> None:
        assert await everything(reader, CART) == {b"k": b"v"}
        engine = SqliteEngine.open(tmp_path, SystemClock())
        turns = await claimed(engine, CART)
        assert await engine.commit([turns.turn({b"k": b"w"})]) == [True]
        await engine.close()
        assert await everything(reader, CART) == {b"k": b"w"}

    with_engine(tmp_path, use, read_only=True)
    with_engine(tmp_path, nothing)


def test_read_only_needs_a_database(tmp_path: Path) -> None:
    """Reading a directory without a database says so and makes nothing."""
    with pytest.raises(EngineFailed, match="there is no database"):
        SqliteEngine.open(tmp_path, SystemClock(), read_only=True)
    assert list(tmp_path.iterdir()) == []
