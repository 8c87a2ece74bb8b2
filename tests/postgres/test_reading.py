"""Commands that look at actors in PostgreSQL, where no server has to run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stead.clock import SystemClock
from stead.codec import encode
from stead.errors import EngineFailed
from stead.storage.entries import USER
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from tests.postgres.server import execute
from tests.test_cli import stead
from tests.test_storage_transfer import Actors, made

ACTORS: Actors = {
    "full": (3, {USER + b"greeting": encode("hello"), USER + b"large": encode("x" * 1_000_000)}, {"later": 2**40}),
    "emptied": (4, {}, {}),
    "many": (2, {USER + b"%06d" % number: encode(number) for number in range(3_000)}, {}),
}


@pytest.fixture
def data(dsn: str, tmp_path: Path) -> Path:
    """A data directory that holds the same actors."""
    asyncio.run(made(tmp_path / "data", ACTORS))
    stead("migrate-engine", tmp_path / "data", dsn)
    return tmp_path / "data"


def test_actors_are_shown_as_those_of_a_data_directory(
    dsn: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed, shown and exported: by a flag, or by the variable of the server, with no data directory at all."""
    for arguments in (("list", "--all"), ("list", "--prefix", "f"), ("show", "box/full"), ("show", "box/many")):
        of_data = stead("actors", *arguments, "--json", "--data", data).stdout
        assert stead("actors", *arguments, "--json", "--engine", dsn).stdout == of_data
    stead("actors", "export", "box/many", tmp_path / "a.sqlite", "--data", data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEAD_ENGINE", dsn)
    stead("actors", "export", "box/many", tmp_path / "b.sqlite")
    keys = [_keys(tmp_path / name) for name in ("a.sqlite", "b.sqlite")]
    assert keys[0] == keys[1] and len(keys[0]) == 3_000
    assert [line["id"] for line in json.loads(stead("actors", "list", "--json").stdout)["actors"]] == ["box/full", "box/many"]


def test_what_changes_actors_asks_a_node(dsn: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written beside the nodes, nor into a data directory whose actors are elsewhere."""
    (tmp_path / "stead.manifest").write_text('application "a" {\n  sql_database "records" {}\n}\n')
    (tmp_path / "dump.sql").write_text("CREATE TABLE notes (text);")
    monkeypatch.setenv("STEAD_ENGINE", dsn)
    for command in (
        ("actors", "delete", "box/full", "--yes"),
        ("db", "import", "records", tmp_path / "dump.sql", "--app", tmp_path),
        ("db", "execute", "records", "SELECT 1", "--app", tmp_path),
        ("queues", "list", "--app", tmp_path),
    ):
        said = stead(*command, "--data", data, code=1).stderr
        assert f"no server runs on the data directory {data}" in said and "name its --data" in said
    assert "box/full" in stead("actors", "list").stdout


def test_looking_makes_nothing(dsn: str) -> None:
    """A database without tables stays so; what is wrong with an address is said without its password."""
    said = stead("actors", "list", "--engine", dsn, code=1).stderr
    assert "has no tables of Stead in the schema stead: is it the right database" in said
    assert "no tables of Stead" in stead("actors", "list", "--engine", dsn, code=1).stderr
    wrong = dsn.replace("postgres@", "postgres:sesame@") + "_elsewhere"
    said = stead("actors", "list", "--engine", wrong, code=1).stderr
    assert "the server has no such database" in said and "sesame" not in said
    said = stead("actors", "list", "--engine", "mysql://a:sesame@b/c", code=1).stderr
    assert "the engine is 'sqlite' or an address such as postgres://" in said and "sesame" not in said


def test_what_takes_no_writes_can_be_looked_at(dsn: str, data: Path) -> None:
    """As a standby does: it is refused to a node, and such an engine becomes none."""
    asyncio.run(execute(dsn, f"ALTER DATABASE {dsn.rpartition('/')[2]} SET default_transaction_read_only = on"))
    assert "box/full" in stead("actors", "list", "--engine", dsn).stdout

    async def run() -> None:
        with pytest.raises(EngineFailed, match="give the address of the primary"):
            await PostgresEngine.open(dsn, SystemClock())
        engine = await PostgresEngine.open(dsn, SystemClock(), read_only=True)
        with pytest.raises(AssertionError):
            await engine.join(NodeInfo("node", "127.0.0.1:1"), 60)
        await engine.close()

    asyncio.run(run())


def _keys(file: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM stead_keys").fetchall()
