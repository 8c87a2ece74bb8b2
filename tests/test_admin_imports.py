"""Databases from files: any SQLite file or dump becomes an actor's SQL in one commit, or nothing happens."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from stead.admin import IMPORTS, AdminApi, EngineOperator, NodeUnits, ServerAddress, prepare_database, remote_operator
from stead.admin import imports as imports_module
from stead.admin.imports import page_entries
from stead.clock import SystemClock
from stead.errors import Invalid
from stead.ids import Chance, named_id
from stead.node import Node, Operating, Settings, load_application
from stead.storage.sqlite import SqliteEngine

TOKEN = "secret"


def make(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_file_of_any_form_is_prepared(tmp_path: Path) -> None:
    """Another page size, a write-ahead log, full-text indexes, what an actor's export adds: what comes out is what pages hold."""
    source, target = tmp_path / "source.db", tmp_path / "target.sqlite"
    make(
        source,
        "PRAGMA page_size = 1024",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE t (a)",
        "CREATE TABLE stead_keys (key, value, raw)",
        "CREATE VIRTUAL TABLE words USING fts5(word)",
        "INSERT INTO words VALUES ('hello')",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT i FROM n",
    )
    before = source.read_bytes()
    prepare_database(source, target)
    assert source.read_bytes() == before and not list(tmp_path.glob("*.partial*"))
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (5000, 12502500)
        assert connection.execute("SELECT word FROM words WHERE words MATCH 'hello'").fetchall() == [("hello",)]
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'stead_keys'").fetchone() == (0,)
        assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
    assert len(page_entries(target)) == target.stat().st_size // 4096 + 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"SELECT 1; BROKEN", "no dump"),
        (b"BEGIN; CREATE TABLE t (a);", "middle of a transaction"),
        (b"\xff\xfe", "cannot be read"),
        (b"SQLite format 3\0" + b"x" * 5000, "no SQLite database|damaged"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """The error names the file."""
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(Invalid, match=said) as caught:
        prepare_database(tmp_path / "source", tmp_path / "target")
    assert "source" in str(caught.value)


def test_a_damaged_or_large_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is looked at before anything is replaced, and a database must fit one commit."""
    source = tmp_path / "source.sqlite"
    make(source, "CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(100000))", "CREATE TABLE u (a)", "INSERT INTO u VALUES (1)")
    prepare_database(source, tmp_path / "good")
    monkeypatch.setattr(imports_module, "IMPORT_BYTES_MAX", 50_000)
    with pytest.raises(Invalid, match="the limit of an import"):
        prepare_database(source, tmp_path / "large")
    monkeypatch.undo()
    data = bytearray(source.read_bytes())
    data[4096:8192] = b"\x07" * 4096
    source.write_bytes(data)
    with pytest.raises(Invalid, match="damaged|no SQLite"):
        prepare_database(source, tmp_path / "bad")


def test_a_running_node_sees_what_was_imported(tmp_path: Path) -> None:
    """Also an actor that was in memory; without `overwrite` nothing is replaced; only files of the data directory are taken."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text('application "a" { sql_database "main" {} }')
        (tmp_path / "app.py").write_text("")
        data, clock = tmp_path / "data", SystemClock()
        engine = SqliteEngine.open(data, clock)

        def admin(node: Node) -> AdminApi:
            return AdminApi(EngineOperator(engine, clock, node.evict), NodeUnits(node), node.stats, TOKEN, data=data)

        node = Node(load_application(tmp_path), engine, Settings(data=data), clock, Chance(1), Operating(admin=admin))
        await node.start()
        db = node.env.MAIN
        make(tmp_path / "new.db", "CREATE TABLE t (a)", "INSERT INTO t VALUES ('new')")
        (data / IMPORTS).mkdir()
        file = data / IMPORTS / "ab.sqlite"
        prepare_database(tmp_path / "new.db", file)
        transport = httpx.ASGITransport(node.gateway, client=("127.0.0.1", 1))
        async with remote_operator(ServerAddress(1, "http://localhost", TOKEN), transport) as remote:
            actor = named_id("main", "database")
            await remote.import_sql(actor, file, False)
            assert await db.prepare("SELECT a FROM t").raw() == [["new"]]
            await db.exec("UPDATE t SET a = 'changed'; CREATE TABLE u (b)")
            with pytest.raises(Invalid, match="holds data already"):
                await remote.import_sql(actor, file, False)
            assert await db.prepare("SELECT a FROM t").raw() == [["changed"]]
            await remote.import_sql(actor, file, True)
            assert await db.prepare("SELECT a FROM t").raw() == [["new"]]
            assert await db.prepare("SELECT name FROM sqlite_schema").raw() == [["t"]]
            for name in ("../../new.db", "/etc/passwd", "cd.sqlite", ""):
                with pytest.raises(Invalid):
                    await remote.import_sql(actor, Path(name), True)
        await node.close()
        await engine.close()

    asyncio.run(work())
