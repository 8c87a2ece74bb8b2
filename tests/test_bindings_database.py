"""SQL databases: D1's calls over an actor, batches that happen whole, migrations that are applied once and never half."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead import Ambiguous, Invalid, SqlError
from stead.bindings import Binding, Database, DatabaseActor, Migration
from stead.bindings.database.actor import LEDGER
from stead.bindings.database.statements import split_statements
from stead.clock import sleep
from stead.ids import Chance
from stead.manifest import ManifestErrors
from stead.node import load_application
from stead.testing import TestApp, World, check, find

pytestmark = pytest.mark.usefixtures("clock")


def with_database(world: World = World()) -> TestApp:
    return TestApp.of(bindings={"db": Binding(DatabaseActor, partial(Database, unit="db"))}, world=world)


def migration(number: int, text: str) -> Migration:
    name = f"{number:04}_step"
    return Migration(name, f"db/db/{name}.sql", text)


async def tables(db: Database) -> list[Any]:
    return [row[0] for row in await db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").raw()]


async def test_statements_give_what_d1_gives() -> None:
    """`first` a row or a value, `all` and `run` rows and meta, `raw` lists; all of it durable when it returns."""
    async with with_database() as app:
        db: Database = app.env.DB
        done = await db.exec(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); -- a; comment\nINSERT INTO t (name) VALUES ('a;b');"
        )
        assert done.count == 2
        insert = db.prepare("INSERT INTO t (name) VALUES (?) RETURNING id")
        result = await insert.bind("bob").run()
        assert result.success and result.results == [{"id": 2}]
        assert (result.meta.last_row_id, result.meta.changes, result.meta.rows_written) == (2, 1, 1)
        assert result.meta.size_after > 0 and result.meta.rows_read is None
        await app.crash()
        named = db.prepare("SELECT id, name FROM t WHERE name = :name")
        assert await named.bind({"name": "a;b"}).first() == {"id": 1, "name": "a;b"}
        assert await named.bind({"name": "bob"}).first("id") == 2
        assert await named.bind({"name": "nobody"}).first() is None
        everything = db.prepare("SELECT * FROM t ORDER BY id")
        assert (await everything.all()).results == [{"id": 1, "name": "a;b"}, {"id": 2, "name": "bob"}]
        assert await everything.raw(column_names=True) == [["id", "name"], [1, "a;b"], [2, "bob"]]
        with pytest.raises(Invalid, match="no column 'age'; it has id, name"):
            await everything.first("age")
        updated = (await db.prepare("UPDATE t SET name = upper(name)").run()).meta
        assert (updated.changes, updated.rows_written) == (2, 2)
        looked = (await everything.all()).meta
        assert (looked.changes, looked.rows_written) == (0, 0)


async def test_what_triggers_write_is_counted_apart() -> None:
    """`changes` is the statement's own, `rows_written` all."""
    async with with_database() as app:
        db: Database = app.env.DB
        await db.exec(
            "CREATE TABLE t (a); CREATE TABLE log (a);"
            "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); INSERT INTO log VALUES (new.a); END;"
        )
        meta = (await db.prepare("INSERT INTO t VALUES (1), (2)").run()).meta
        assert (meta.changes, meta.rows_written) == (2, 6)


async def test_a_batch_is_one_transaction() -> None:
    """The statement that fails is named, and nothing of the batch has happened."""
    async with with_database() as app:
        db: Database = app.env.DB
        await db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        insert = db.prepare("INSERT INTO t VALUES (?)")
        results = await db.batch([insert.bind(1), db.prepare("SELECT count(*) AS n FROM t"), insert.bind(2)])
        assert results[1].results == [{"n": 1}]
        with pytest.raises(SqlError, match="UNIQUE") as caught:
            await db.batch([insert.bind(3), insert.bind(1)])
        assert caught.value.constraint in {"unique", "primarykey"} and "INSERT INTO t" in caught.value.query
        with pytest.raises(SqlError, match="syntax error"):
            await db.exec("INSERT INTO t VALUES (4); INSERTT INTO t VALUES (5);")
        assert await db.prepare("SELECT count(*) FROM t").raw() == [[2]]
        for wrong in ([], [Database(db_namespace(app), app.env).prepare("SELECT 1")]):
            with pytest.raises(Invalid):
                await db.batch(wrong)
        with pytest.raises(Invalid, match="the turn is the transaction"):
            await db.exec("BEGIN; INSERT INTO t VALUES (9); COMMIT")


def db_namespace(app: TestApp) -> Any:
    class Other:
        def get(self, name: str) -> None: ...

    return Other()


SCRIPT = """-- begins; with a comment
CREATE TABLE a (x TEXT DEFAULT ';');

/* and; another */ CREATE TRIGGER t AFTER INSERT ON a BEGIN
  UPDATE a SET x = 'a;b';
END;
;; SELECT 'it''s; quoted'
"""


def test_a_script_is_split_where_sqlite_would() -> None:
    """Semicolons in texts, comments and triggers end nothing; each statement has its line; no statement is made of comments."""
    found = split_statements(SCRIPT)
    assert [(one.line, one.text.split()[0]) for one in found] == [(2, "CREATE"), (4, "CREATE"), (7, "SELECT")]
    assert found[1].text.endswith("END;") and found[2].text == "SELECT 'it''s; quoted'"
    assert split_statements(" -- nothing\n;;/* open") == []


@given(
    st.lists(
        st.sampled_from(["SELECT 1", "SELECT ';'", 'SELECT ";"', "-- c;\n", "/* ; */", "CREATE TRIGGER a BEGIN x; END", ";", "\n"])
    )
)
def test_no_text_is_lost_or_doubled_by_splitting(parts: list[str]) -> None:
    """The statements stand in the script in this order, and on the lines that they are said to be on."""
    script = "".join(part if part.endswith("\n") or part == ";" else f"{part};" for part in parts)
    at = 0
    for one in split_statements(script):
        at = script.index(one.text, at)
        assert one.line == script.count("\n", 0, at) + 1
        at += len(one.text)
    assert sum(one.text.startswith("SELECT") for one in split_statements(script)) == sum("SELECT" in part for part in parts)


async def test_migrations_are_applied_once_and_in_order() -> None:
    """Each in a transaction of its own, noted in the ledger; a second time nothing is left to do."""
    async with with_database() as app:
        db: Database = app.env.DB
        files = [migration(2, "INSERT INTO t VALUES (2);"), migration(1, "CREATE TABLE t (a); INSERT INTO t VALUES (1);")]
        assert await db.migrate(files) == ["0001_step", "0002_step"]
        assert await db.migrate([*files, migration(3, "-- nothing yet")]) == ["0003_step"]
        assert await db.prepare("SELECT a FROM t").raw() == [[1], [2]]
        ledger = await db.migrations()
        assert [line.name for line in ledger] == ["0001_step", "0002_step", "0003_step"]
        assert ledger[0].checksum == files[1].checksum and ledger[0].applied_at <= app.env.now()
        assert LEDGER in await tables(db)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "CREATE TABLE u (a);\n\nINSERT INTO none\nVALUES (1);",
            r"db/db/0002_step.sql:3: no such table: none \(in: INSERT INTO none",
        ),
        ("CREATE TABLE u (a); CREAT TABLE v (a);", r"0002_step.sql:1: near \"CREAT\""),
        ("CREATE TABLE u (a);\nCOMMIT;", "0002_step.sql:2: the turn is the transaction"),
        ("PRAGMA defer_foreign_keys = on;\nINSERT INTO child VALUES (5);", "0002_step.sql: constraints were violated"),
        ("CREATE TABLE _stead_x (a);", "0002_step.sql:1: names that begin with _stead_"),
    ],
)
async def test_a_migration_that_fails_leaves_nothing(text: str, said: str) -> None:
    """The error tells file, line and statement; those before it stay, those behind it wait."""
    async with with_database() as app:
        db: Database = app.env.DB
        first = migration(1, "CREATE TABLE t (a PRIMARY KEY); CREATE TABLE child (t REFERENCES t (a));")
        with pytest.raises(Invalid, match=said) as caught:
            await db.migrate([first, migration(2, text), migration(3, "CREATE TABLE w (a);")])
        assert "nothing of it was applied" in str(caught.value)
        assert await tables(db) == ["child", LEDGER, "t"]
        assert await db.migrate([first, migration(2, "CREATE TABLE u (a);"), migration(3, "CREATE TABLE w (a);")]) == [
            "0002_step",
            "0003_step",
        ]


async def test_what_was_applied_is_history() -> None:
    """A file that was changed, is missing, or comes before one that was applied is an error that says what to do."""
    async with with_database() as app:
        db: Database = app.env.DB
        files = [migration(1, "CREATE TABLE t (a);\r\n"), migration(3, "CREATE TABLE u (a);")]
        await db.migrate(files)
        assert await db.migrate([migration(1, "CREATE TABLE t (a);\n"), files[1]]) == []
        with pytest.raises(Invalid, match="0001_step.sql: this migration was applied .* has been changed since\n  hint: restore"):
            await db.migrate([migration(1, "CREATE TABLE t (b);"), files[1]])
        with pytest.raises(Invalid, match="0003_step.sql was applied .* is missing\n  hint: put the file back"):
            await db.migrate(files[:1])
        with pytest.raises(
            Invalid, match="0002_step.sql: this migration comes before 0003_step.sql.*\n  hint: give it a number above"
        ):
            await db.migrate([*files, migration(2, "CREATE TABLE v (a);")])
        assert await tables(db) == [LEDGER, "t", "u"]


async def migrate_through_crashes(seed: int) -> None:
    """Start migrating again and again, with crashes on the way and now and then a file that cannot be applied."""
    chance = Chance(seed)
    twice = "INSERT INTO log VALUES ({0});\nINSERT INTO log VALUES ({0});"
    files = [migration(1, "CREATE TABLE log (step);"), *(migration(number, twice.format(number)) for number in range(2, 8))]
    broken = migration(5, "INSERT INTO log VALUES (5); INSERT INTO none VALUES (5);")
    async with with_database(World(commit_s=0.01)) as app:
        db: Database = app.env.DB

        async def migrate() -> None:
            given = [broken if file.number == 5 and chance.below(3) == 0 else file for file in files]
            try:
                await db.migrate(given)
            except Ambiguous:  # the process died
                pass
            except Invalid as exc:
                assert "0005_step.sql" in str(exc), exc

        for _ in range(6):
            async with asyncio.TaskGroup() as group:
                group.create_task(migrate())
                if chance.below(4) == 0:
                    group.create_task(migrate())  # another node that starts at the same time
                await sleep(chance.fraction() * 0.06)
                await app.crash()
            if LEDGER in await tables(db):
                steps = [row[0] for row in await db.prepare("SELECT step FROM log ORDER BY rowid").raw()]
                applied = [line.number for line in await db.migrations()]
                assert steps == [number for number in applied[1:] for _ in range(2)], (steps, applied)
        await db.migrate(files)
        assert len(await db.migrations()) == len(files)


def test_crashes_leave_no_migration_half_applied() -> None:
    """Over many seeds the tables hold exactly what the ledger says."""
    check(migrate_through_crashes, seeds=100)


def test_the_property_finds_a_ledger_that_commits_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: what a migration has written is committed before it is noted."""
    right = DatabaseActor.apply

    async def apply(self: DatabaseActor, migration: Migration) -> bool:
        execute = self.sql.execute

        class Sql:
            def __getattr__(self, name: str) -> Any:
                return getattr(sql, name)

            async def execute(self, query: str, *params: object) -> int:
                if query.startswith("CREATE TABLE IF NOT EXISTS"):
                    await actor.storage.sync()
                return await execute(query, *params)

        actor, sql = self, self.sql
        self.sql = Sql()
        try:
            return await right(self, migration)
        finally:
            self.sql = sql

    monkeypatch.setattr(DatabaseActor, "apply", apply)
    find(migrate_through_crashes, seeds=100)


MANIFEST = 'application "a" { sql_database "main" {} actor "asker" {} }'
APP = """from stead import Actor
class Asker(Actor):
    async def count(self):
        return await self.env.MAIN.prepare("SELECT count(*) AS n FROM users").first("n")
    async def on_start(self):
        self.at_start = await self.count()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "db" / "main").mkdir(parents=True)
    (tmp_path / "db" / "main" / "0001_users.sql").write_text("CREATE TABLE users (name);\nINSERT INTO users VALUES ('ann');\n")
    return tmp_path


async def test_an_application_finds_its_database_ready(place: Path) -> None:
    """The migrations beside its manifest are applied before any of its code runs; new ones at the next start."""
    async with TestApp(place) as app:
        assert await app.env.ASKER.get("a").count() == 1
    (place / "db" / "main" / "0002_more.sql").write_text("INSERT INTO users VALUES ('bob');")
    (place / "db" / "main" / "notes.txt").write_text("not a migration")
    application = TestApp(place)
    async with application as app:
        assert await app.env.ASKER.get("a").count() == 2


LATE_APP = """from stead import Actor
class Asker(Actor):
    async def soon(self, when): await self.storage.set_alarm(when)
    async def alarm(self, alarm):
        n = await self.env.MAIN.prepare("SELECT n FROM added").first("n")
        await self.storage.put("seen", [alarm.retry_count, n])
    async def seen(self): return await self.storage.get("seen")
"""


async def test_alarms_wait_for_migrations(place: Path) -> None:
    """What came due while nobody ran rings when the database is as the new version of its code needs it."""
    (place / "app.py").write_text(LATE_APP)
    async with TestApp(place, world=World(commit_s=0.5)) as app:
        asker = app.env.ASKER.get("a")
        await asker.soon(app.clock.now_ms() + 60_000)
        (place / "db" / "main" / "0002_added.sql").write_text("CREATE TABLE added (n);")
        for number in range(3, 8):
            (place / "db" / "main" / f"000{number}_rows.sql").write_text(f"DELETE FROM added; INSERT INTO added VALUES ({number});")
        app.application = load_application(place)
        app.clock.jump(3_600_000)
        await app.crash()
        await app.clock.advance(seconds=5)
        assert await asker.seen() == [0, 7]


async def test_a_migration_that_fails_stops_the_start(place: Path) -> None:
    """The application does not run on half a database."""
    (place / "db" / "main" / "0002_bad.sql").write_text("INSERT INTO nobody VALUES ('bob');")
    with pytest.raises(Invalid, match=r"db/main/0002_bad.sql:1: no such table: nobody"):
        async with TestApp(place):
            raise AssertionError("it runs")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("2_short.sql", b"", "no name for a migration"),
        ("0001_again.sql", b"", "have the same number"),
        ("0002_latin.sql", "-- grün".encode("latin-1"), "UTF-8"),
    ],
)
def test_wrong_files_are_told_before_the_start(place: Path, name: str, content: bytes, said: str) -> None:
    """`stead check` and the start name the file and say what to do."""
    (place / "db" / "main" / name).write_bytes(content)
    with pytest.raises(ManifestErrors, match=said) as caught:
        load_application(place)
    assert caught.value.file.startswith("db/main/")
