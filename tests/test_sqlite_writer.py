"""The SQLite engine's writer: failing media, ownership in memory, a log that stays bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random  # noqa: TID251 - the seed of each test case

import apsw
import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.sqlite import SqliteEngine
from stead.storage.sqlite.file import FILE_NAME, WAL_BYTES_KEPT
from stead.storage.sqlite.schema import HEAD, INLINE_BYTES_MAX, PAGE_BYTES, STEPS, migrate
from stead.storage.sqlite.writer import PUT_ENTRIES, ROWS_MAX, ManyRows
from stead.testing.conformance import claimed, everything

A, B = named_id("cart", "a"), named_id("cart", "b")
TMPFS_BYTES = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of TMPFS_BYTES."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_file_fails_the_batch_and_nothing_else(tmp_path: Path) -> None:
    """At size_bytes_max a batch raises and leaves no trace, its seq is free again, and smaller batches go on."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock(), size_bytes_max=64 * PAGE_BYTES)
        a, b = await claimed(engine, A), await claimed(engine, B)
        assert await engine.commit([a.turn({b"k": b"v"}), b.turn({b"k": b"v"})]) == [True, True]
        with pytest.raises(EngineFailed, match=r"cannot grow .*Free space on its disk"):
            await engine.commit([b.turn({b"k": b"w"}), a.turn({b"large": bytes(100 * PAGE_BYTES)})])
        assert [await everything(engine, actor) for actor in (A, B)] == [{b"k": b"v"}] * 2
        assert await engine.commit([a.turn({b"k": b"gap"})]) == [False]
        a.seq = b.seq = 1
        assert await engine.commit([a.turn({b"k": b"w"}), b.turn({b"k": b"w"})]) == [True, True]
        await engine.close()
        engine = SqliteEngine.open(tmp_path, SystemClock(), deep_check=True)
        assert [await everything(engine, actor) for actor in (A, B)] == [{b"k": b"w"}] * 2
        await engine.close()

    asyncio.run(run())


def test_full_disk_fails_batches_until_there_is_room(small_disk: Path) -> None:
    """On a disk that is really full commits raise; what was acknowledged stays, and with room the engine goes on."""

    async def run() -> None:
        engine = SqliteEngine.open(small_disk, SystemClock())
        turns = await claimed(engine, A)
        assert await engine.commit([turns.turn({b"k": b"v"})]) == [True]
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_bsize))
        for _ in range(3):
            turns.seq = 1
            with pytest.raises(EngineFailed, match=f"{FILE_NAME} cannot (grow|be read or written)"):
                await engine.commit([turns.turn({b"large": bytes(10 * PAGE_BYTES)})])
        assert await everything(engine, A) == {b"k": b"v"}
        ballast.unlink()
        turns.seq = 1
        assert await engine.commit([turns.turn({b"large": bytes(10 * PAGE_BYTES)})]) == [True]
        await engine.close()
        engine = SqliteEngine.open(small_disk, SystemClock())
        assert await everything(engine, A) == {b"k": b"v", b"large": bytes(10 * PAGE_BYTES)}
        await engine.close()

    asyncio.run(run())


def test_batches_behind_a_failed_one_are_refused(tmp_path: Path) -> None:
    """Commits already waiting behind a failed batch do not follow any more: refused, never applied over the gap."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock(), size_bytes_max=64 * PAGE_BYTES)
        a, b = await claimed(engine, A), await claimed(engine, B)
        batches = [[a.turn({b"large": bytes(100 * PAGE_BYTES)})], [a.turn({b"k": b"v"}), b.turn({b"k": b"v"})]]
        failed, behind = await asyncio.gather(*map(engine.commit, batches), return_exceptions=True)
        assert isinstance(failed, EngineFailed)
        assert behind == [False, True]
        assert (await engine.claim(A)).seq == 0
        await engine.close()

    asyncio.run(run())


def test_unstorable_commit_does_not_end_the_writer(tmp_path: Path) -> None:
    """What SQLite cannot bind fails its batch with the reason; the next batch is written."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        a, b = await claimed(engine, A), await claimed(engine, B)
        with pytest.raises(UnicodeEncodeError):
            await engine.commit([a.turn({b"k": b"v"}, alarms={"\ud800": 1})])
        assert await engine.commit([b.turn({b"k": b"v"})]) == [True]
        assert await everything(engine, A) == {}
        await engine.close()

    asyncio.run(run())


def test_cancelled_commit_is_still_written(tmp_path: Path) -> None:
    """Who stops waiting for a batch does not tear it; a claim right after sees what it did."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        turns = await claimed(engine, A)
        commit = asyncio.ensure_future(engine.commit([turns.turn({b"k": b"v"})]))  # noqa: TID251 - to cancel it
        claim = asyncio.ensure_future(engine.claim(A))  # noqa: TID251 - to run beside it
        asyncio.get_running_loop().call_soon(commit.cancel)
        assert (await claim).entries == {b"k": b"v"}
        assert commit.cancelled()
        await engine.close()

    asyncio.run(run())


def test_ownership_given_up_is_forgotten(tmp_path: Path) -> None:
    """Memory holds the actors in use: released ones leave nothing behind, also with commits of theirs under way."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        everyone = [await claimed(engine, named_id("cart", str(number))) for number in range(100)]
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(engine.commit([turns.turn({b"k": b"v"}) for turns in everyone]))
            for turns in everyone:
                group.create_task(engine.release(turns.actor, turns.claim.epoch))
        assert commit.result() == [True] * 100
        assert engine.owned() == 0
        await engine.close()

    asyncio.run(run())


def test_log_stays_bounded(tmp_path: Path) -> None:
    """The log is copied back as it grows and used again from its start, with readers at work in between."""

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        turns, size_bytes = await claimed(engine, A), 512 * 1024
        for number in range(4 * WAL_BYTES_KEPT // size_bytes):
            assert await engine.commit([turns.turn({b"%d" % (number % 4): bytes(size_bytes)})]) == [True]
            assert await engine.scan(A, b"", None, limit=1)
            assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size <= WAL_BYTES_KEPT
        await engine.close()
        assert not (tmp_path / f"{FILE_NAME}-wal").exists()

    asyncio.run(run())


def large_rows(directory: Path) -> int:
    connection = apsw.Connection(str(directory / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    count = connection.execute("SELECT count(*) FROM large").get
    connection.close()
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("seed", range(20))
def test_values_around_the_bound_of_a_row(tmp_path: Path, seed: int) -> None:
    """Values come back whether they lie in their row or elsewhere; what is replaced, deleted or erased leaves nothing behind."""
    chance = Random(seed)

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        actors = [await claimed(engine, A), await claimed(engine, B)]
        models: list[dict[bytes, bytes]] = [{}, {}]
        for _ in range(30):
            batch = []
            for _ in range(chance.randrange(1, 5)):
                which = chance.randrange(2)
                erase = chance.random() < 0.1
                writes = {
                    b"%d" % chance.randrange(6): chance.choice([None, b"small", bytes([chance.randrange(256)]) * size])
                    for size in chance.sample([INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 5 * INLINE_BYTES_MAX], chance.randrange(3))
                }
                batch.append(actors[which].turn(writes, erase=erase))
                merged = {**({} if erase else models[which]), **writes}
                models[which] = {key: value for key, value in merged.items() if value is not None}
            assert all(await engine.commit(batch))
            if chance.random() < 0.2:
                await engine.close()
                engine = SqliteEngine.open(tmp_path, SystemClock())
                actors = [await claimed(engine, A), await claimed(engine, B)]
            for actor, model in zip((A, B), models, strict=True):
                assert await everything(engine, actor) == model
                assert await engine.read(actor, [b"%d" % key for key in range(6)]) == model
            assert large_rows(tmp_path) == sum(len(value) > INLINE_BYTES_MAX for model in models for value in model.values())
        for actor, model in zip((A, B), models, strict=True):
            assert (await engine.claim(actor)).entries == model
        await engine.close()

    asyncio.run(run())


def test_large_values_of_an_older_file(tmp_path: Path) -> None:
    """What a file of the first schema kept in its row is read as before, and lies elsewhere once it is written again."""
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    migrate(connection, tmp_path / FILE_NAME, STEPS[:1])
    connection.execute("INSERT INTO actors VALUES (1, ?, 5)", (A.text,))
    head = HEAD.pack(100_001, 1, 1, 5)
    PUT_ENTRIES.execute(connection, [(1, b"k", b"x" * 100_000), (1, 0, head)])
    connection.close()

    async def run() -> None:
        engine = SqliteEngine.open(tmp_path, SystemClock())
        a = await claimed(engine, A)
        assert await everything(engine, A) == {b"k": b"x" * 100_000}
        assert large_rows(tmp_path) == 0
        assert await engine.commit([a.turn({b"k": b"y" * 100_000})]) == [True]
        assert await everything(engine, A) == {b"k": b"y" * 100_000}
        assert large_rows(tmp_path) == 1
        await engine.close()

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 2, 3, 5, ROWS_MAX - 1, ROWS_MAX, ROWS_MAX + 1, 3 * ROWS_MAX + 7])
def test_any_number_of_rows(count: int) -> None:
    """A statement of fixed sizes writes exactly the rows it is given, however many."""
    connection = apsw.Connection("")
    connection.execute("CREATE TABLE entries (actor, key, value, PRIMARY KEY (actor, key)) WITHOUT ROWID")
    rows: list[tuple[object, ...]] = [(number, b"k", b"%d" % number) for number in range(count)]
    for statement in (PUT_ENTRIES, ManyRows("DELETE FROM entries WHERE (actor, key) IN (VALUES", 2, ")")):
        statement.execute(connection, rows if statement is PUT_ENTRIES else [row[:2] for row in rows[1:]])
        expected = rows if statement is PUT_ENTRIES else rows[:1]
        assert connection.execute("SELECT * FROM entries ORDER BY actor").fetchall() == expected
    connection.close()


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM entries WHERE (actor, key) IN (VALUES (1, x'00'), (2, x'00'))",
        "DELETE FROM alarms WHERE (actor, name) IN (VALUES ('a', ''), ('b', ''))",
        "SELECT (SELECT large.value FROM large WHERE number = entries.value) FROM entries WHERE actor = 1 AND key >= x'00'",
        "SELECT due_ms, actor, name FROM alarms WHERE due_ms <= 5 ORDER BY due_ms, actor, name LIMIT 1",
        "SELECT id, created_ms, value FROM actors JOIN entries ON actor = number AND key = 0 WHERE id >= '' ORDER BY id",
    ],
)
def test_statements_walk_no_table_and_sort_nothing(tmp_path: Path, query: str) -> None:
    """What the engine asks stays cheap with millions of rows: found by key, read in order."""

    async def run() -> None:
        await SqliteEngine.open(tmp_path, SystemClock()).close()

    asyncio.run(run())
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    plan = " / ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    connection.close()
    assert "SEARCH" in plan
    assert "TEMP B-TREE" not in plan
    assert not any(f"SCAN {table}" in plan for table in ("entries", "alarms", "actors"))
