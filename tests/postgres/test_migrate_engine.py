"""`stead migrate-engine`: what it prints, and what is there after it was killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import asyncpg
import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.contract import BATCH_COMMITS_MAX, Commit
from stead.storage.postgres import PostgresEngine
from stead.storage.sqlite import SqliteEngine
from tests.test_cli import stead
from tests.test_storage_transfer import SAMPLE, made

LIMIT_S = 60.0
POLL_S = 0.005
MANY = 20 * BATCH_COMMITS_MAX


def test_there_and_back(dsn: str, tmp_path: Path) -> None:
    """It says how much was moved and the digest of all; JSON has the same, and the digest is the same on the way back."""
    asyncio.run(made(tmp_path / "a", SAMPLE))
    secret = dsn.replace("postgres@", "postgres:open%2Fsesame@")
    there = json.loads(stead("migrate-engine", f"sqlite:{tmp_path / 'a'}", secret, "--json").stdout)
    assert (there["actors"], there["entries"], there["alarms"]) == (4, 9_003, 5_003)
    result = stead("migrate-engine", secret, tmp_path / "b")
    assert "moved 4 actors with 9,003 entries" in result.stdout and there["digest"] in result.stdout
    assert "sesame" not in result.output and "sesame" not in str(there)
    assert "has actors already" in stead("migrate-engine", tmp_path / "b", secret, code=1).stderr
    assert "are the same" in stead("migrate-engine", tmp_path / "b", f"sqlite:{tmp_path / 'b'}", code=1).stderr
    assert "is no engine" in stead("migrate-engine", "mysql://a:sesame@b/c", secret, code=1).stderr
    assert "sesame" not in stead("migrate-engine", "mysql://a:sesame@b/c", secret, code=1).stderr


def test_a_move_to_postgres_that_is_killed_is_never_served(dsn: str, tmp_path: Path) -> None:
    """Nobody can open an engine on half of it; the same command, run again, moves everything."""
    asyncio.run(_many(tmp_path / "a"))

    def is_half_there() -> bool:
        try:
            return asyncio.run(_value(dsn, "SELECT count(*) FROM stead.actors")) > 0
        except asyncpg.PostgresError:
            return False

    with _running(str(tmp_path / "a"), dsn) as process:
        _wait(is_half_there, process)
        process.kill()
    with pytest.raises(EngineFailed, match="being filled"):
        asyncio.run(PostgresEngine.open(dsn, SystemClock()))
    assert json.loads(stead("migrate-engine", tmp_path / "a", dsn, "--json").stdout)["actors"] == MANY
    assert asyncio.run(_value(dsn, "SELECT count(*) FROM stead.actors")) == MANY


def test_a_move_to_sqlite_that_is_killed_leaves_no_database(tmp_path: Path) -> None:
    """The directory has none before all of it is there; the same command, run again, moves everything."""
    asyncio.run(_many(tmp_path / "a"))
    target = tmp_path / "b"
    with _running(str(tmp_path / "a"), f"sqlite:{target}") as process:
        _wait((target / "moving" / "stead.sqlite").exists, process)
        process.kill()
    assert not (target / "stead.sqlite").exists()
    assert json.loads(stead("migrate-engine", tmp_path / "a", target, "--json").stdout)["actors"] == MANY
    assert sorted(path.name for path in target.iterdir()) == ["lock", "made", "stead.sqlite"]


async def _many(place: Path) -> None:
    engine = SqliteEngine.open(place, SystemClock())
    for first in range(0, MANY, BATCH_COMMITS_MAX):
        commits = []
        for number in range(first, first + BATCH_COMMITS_MAX):
            actor = named_id("box", str(number))
            claim = await engine.claim(actor)
            commits.append(Commit(actor, claim.epoch, 1, {b"k%d" % key: b"v" for key in range(5)}, {"": 1}, 15, 1))
        assert all(await engine.commit(commits))
    await engine.close()


async def _value(dsn: str, query: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "from stead.cli import main; main()", "migrate-engine", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert SystemClock().elapsed_s() < until_s
        Event().wait(POLL_S)
