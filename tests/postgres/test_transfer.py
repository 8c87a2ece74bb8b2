"""Moving all actors to PostgreSQL and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.contract import Commit
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.storage.postgres.transfer import PostgresSource, PostgresTarget
from stead.storage.sqlite.transfer import SqliteSource, SqliteTarget
from stead.storage.transfer import Moved, Part, Source, Target, move
from tests.postgres.server import execute
from tests.test_storage_transfer import SAMPLE, Actors, Silent, made

POSTGRES_SAMPLE: Actors = {
    **SAMPLE,
    "pieces": (1, {b"p%d" % size: b"z" * size for size in (262_143, 262_144, 262_145, 1_000_000)}, {}),
}
ENTRIES = st.dictionaries(st.binary(max_size=20), st.binary(max_size=200) | st.just(b"y" * 300_000), max_size=8)
ALARMS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), st.integers(-(2**62), 2**62), max_size=4)


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    return f"move_{sha256(request.node.nodeid.encode()).hexdigest()[:16]}"


async def moved(source: Source, target: Target) -> Moved:
    try:
        return await move(source, target, Silent())
    finally:
        await target.close()
        await source.close()


async def dropped(dsn: str, schema: str) -> None:
    await execute(dsn, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actors=st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
                              st.tuples(st.integers(1, 3), ENTRIES, ALARMS), max_size=5))  # fmt: skip
def test_there_and_back_is_the_same(postgres: str, schema: str, actors: Actors) -> None:
    """SQLite to PostgreSQL to SQLite: equal digests, and the same files' contents as at the beginning."""
    clock = SystemClock()

    async def work(place: Path) -> None:
        await dropped(postgres, schema)
        await made(place / "a", {name: what for name, what in actors.items() if name != "gone"})
        there = await moved(SqliteSource.open(place / "a"), await PostgresTarget.open(postgres, clock, schema=schema))
        back = await moved(await PostgresSource.open(postgres, schema=schema), SqliteTarget.open(place / "b"))
        assert there == back
        ends = [SqliteSource.open(place / name) for name in "ab"]
        first, second = [[part async for part in end.parts()] for end in ends]
        assert first == second
        for end in ends:
            await end.close()

    with TemporaryDirectory() as place:
        asyncio.run(work(Path(place)))


def test_a_served_copy_goes_on_where_the_original_was(postgres: str, schema: str, tmp_path: Path) -> None:
    """An engine over the target has every entry and alarm, claims, and takes the commit that follows the last one."""
    clock = SystemClock()

    async def work() -> None:
        await made(tmp_path / "a", POSTGRES_SAMPLE)
        found = await moved(SqliteSource.open(tmp_path / "a"), await PostgresTarget.open(postgres, clock, schema=schema))
        assert found.actors == 5
        engine = await PostgresEngine.open(postgres, clock, schema=schema)
        await engine.join(NodeInfo("node", "127.0.0.1:1"), 60)
        for name, (commits, entries, alarms) in POSTGRES_SAMPLE.items():
            actor = named_id("box", name)
            claim = await engine.claim(actor)
            assert claim.seq == commits
            assert dict(await engine.scan(actor, b"", None)) == entries
            assert {row.name: row.due_ms for row in await engine.due(2**50, 10_000) if row.actor == actor} == alarms
        actor = named_id("box", "full")
        claim = await engine.claim(actor)
        assert await engine.commit([Commit(actor, claim.epoch, 4, {b"k": b"v", b"large": None}, {}, 3, 1)]) == [True]
        assert dict(await engine.scan(actor, b"", None)) == {b"\x00": b"", b"k": b"v"}
        assert (await engine.claim(named_id("box", "new"))).seq == 0
        await engine.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE {s}.entries SET value = '\\x00' WHERE key = '\\x6b'", "box/full is not the same in the copy (entries)"),
        ("UPDATE {s}.pieces SET value = substr(value, 2) WHERE number = 1", "is not the same in the copy (entries)"),
        ("DELETE FROM {s}.pieces WHERE number = 1", "a value has"),
        ("DELETE FROM {s}.alarms WHERE name = ''", "box/full is not the same in the copy (alarms)"),
        ("UPDATE {s}.actors SET seq = 3 WHERE id = 'box/emptied'", "box/emptied is not the same in the copy (history)"),
        ("DELETE FROM {s}.entries WHERE actor = 5; DELETE FROM {s}.pieces WHERE actor = 5; DELETE FROM {s}.actors WHERE number = 5",
         "the copy lacks box/pieces"),
        ("INSERT INTO {s}.entries VALUES (77, '', 0, 0, '')", "entries of an actor that is not in the registry"),
    ],
)  # fmt: skip
def test_what_differs_is_found_and_not_served(postgres: str, schema: str, tmp_path: Path, statement: str, said: str) -> None:
    """The actor is named, no node can open an engine on the target, and the next move begins anew and succeeds."""
    clock = SystemClock()

    class Damaged(PostgresTarget):
        async def parts(self) -> AsyncIterator[Part]:
            await self._flush()
            await execute(postgres, statement.replace("{s}", schema))
            async for part in super().parts():
                yield part

    async def work() -> None:
        await dropped(postgres, schema)
        await made(tmp_path / "a", POSTGRES_SAMPLE)
        with pytest.raises(EngineFailed) as caught:
            await moved(SqliteSource.open(tmp_path / "a"), await Damaged.open(postgres, clock, schema=schema))
        assert said in str(caught.value)
        with pytest.raises(EngineFailed, match="being filled by `stead migrate-engine`"):
            await PostgresEngine.open(postgres, clock, schema=schema)
        with pytest.raises(EngineFailed, match="not whole"):
            await PostgresSource.open(postgres, schema=schema)
        target = await PostgresTarget.open(postgres, clock, schema=schema)
        assert (await moved(SqliteSource.open(tmp_path / "a"), target)).actors == 5
        await (await PostgresEngine.open(postgres, clock, schema=schema)).close()

    asyncio.run(work())


def test_a_served_database_is_neither_source_nor_target(postgres: str, schema: str) -> None:
    """While a node's lease holds; it is named. One that joins and writes during the move is found out."""
    clock = SystemClock()

    async def work() -> None:
        await dropped(postgres, schema)
        engine = await PostgresEngine.open(postgres, clock, schema=schema)
        await engine.join(NodeInfo("ann", "127.0.0.1:1"), 60)
        with pytest.raises(EngineFailed, match="is served by ann"):
            await PostgresSource.open(postgres, schema=schema)
        with pytest.raises(EngineFailed, match="is served by ann"):
            await PostgresTarget.open(postgres, clock, schema=schema)
        await engine.leave()
        source = await PostgresSource.open(postgres, schema=schema)
        await source.check_unchanged()
        await engine.join(NodeInfo("ann", "127.0.0.1:1"), 60)
        with pytest.raises(EngineFailed, match="is served by ann"):
            await source.check_unchanged()
        actor = named_id("box", "a")
        claim = await engine.claim(actor)
        assert await engine.commit([Commit(actor, claim.epoch, 1, {b"k": b"v"}, {}, 2, 1)]) == [True]
        await engine.leave()
        with pytest.raises(EngineFailed, match="was written to meanwhile"):
            await source.check_unchanged()
        await source.close()
        with pytest.raises(EngineFailed, match="has actors already"):
            await PostgresTarget.open(postgres, clock, schema=schema)
        await engine.close()

    asyncio.run(work())


def test_two_moves_do_not_fill_one_target(postgres: str, schema: str) -> None:
    """The second is refused while the first is at it, and may begin when that has ended."""
    clock = SystemClock()

    async def work() -> None:
        await dropped(postgres, schema)
        first = await PostgresTarget.open(postgres, clock, schema=schema)
        with pytest.raises(EngineFailed, match="being filled by another process"):
            await PostgresTarget.open(postgres, clock, schema=schema)
        await first.close()
        await (await PostgresTarget.open(postgres, clock, schema=schema)).close()

    asyncio.run(work())


def test_other_databases_are_not_taken_for_ours(postgres: str, schema: str) -> None:
    """One without our tables is no source; a password is in no message."""

    async def work() -> None:
        await dropped(postgres, schema)
        with pytest.raises(EngineFailed, match="no tables of Stead"):
            await PostgresSource.open(postgres, schema=schema)
        for address in ("postgresql://ann:opensesame@127.0.0.1:1/x", "postgresql://ann:open/sesame@127.0.0.1:x/y"):
            with pytest.raises(EngineFailed) as caught:
                await PostgresSource.open(address)
            assert "sesame" not in str(caught.value) and "ann" in str(caught.value)

    asyncio.run(work())
