"""`stead doctor` on real servers: settings that lose data, standbys, poolers, clocks, and who is alive."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from threading import Event

import pytest

from stead.admin.doctor import Finding, Level, postgres_findings
from stead.clock import SystemClock
from stead.ids import Chance
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.storage.postgres.condition import Condition, examine
from stead.storage.postgres.schema import STEPS
from tests.postgres.pooler import pooler
from tests.postgres.server import LIMIT_S, POLL_S, Database, new_place, running
from tests.test_cli import stead


class Ahead(SystemClock):
    """A clock that is an hour ahead."""

    def now_ms(self) -> int:
        return super().now_ms() + 3_600_000


def condition_of(dsn: str) -> Condition:
    return asyncio.run(examine(dsn, SystemClock(), Chance()))


def findings_of(dsn: str) -> dict[str, Finding]:
    """The worst of each subject."""
    worst: dict[str, Finding] = {}
    levels = list(Level)
    for finding in asyncio.run(postgres_findings(dsn, SystemClock(), Chance())):
        before = worst.get(finding.subject)
        if before is None or levels.index(finding.level) > levels.index(before.level):
            worst[finding.subject] = finding
    return worst


def test_a_server_is_described(postgres: str) -> None:
    """What it is, how fast it answers and makes a commit durable, and that nothing is between; nothing of it is changed."""
    found = condition_of(postgres)
    assert found.version is not None and found.version >= 140_000
    assert found.pooler is None and found.is_standby is False and found.standbys == []
    assert 0 < found.round_trip_s < 1 and found.commit_s is not None and 0 < found.commit_s < 5
    assert found.settings["max_connections"] == "60" and found.connections_max == 57
    assert found.connections_used is not None and found.connections_used >= 1
    assert not [finding for finding in findings_of(postgres).values() if finding.level is Level.FAILED]


def test_clocks_that_differ_are_found(postgres: str) -> None:
    """By how much; the time that the answer takes is not taken for a difference."""
    assert asyncio.run(examine(postgres, Ahead(), Chance())).ahead_s == pytest.approx(3600, abs=5)
    assert abs(condition_of(postgres).ahead_s) < 1


def test_live_nodes_are_seen(postgres: str) -> None:
    """With what they said of themselves; of one whose version differs it is said, and passwords are not."""

    async def work() -> list[Finding]:
        engines = [await PostgresEngine.open(postgres, SystemClock()) for _ in range(3)]
        for number, engine in enumerate(engines):
            await engine.join(NodeInfo(f"n{number}", "127.0.0.1:1", application="new" if number == 1 else "old"), 60)
        await engines[0].set_draining("n2", True)
        try:
            return await postgres_findings(postgres, SystemClock(), Chance())
        finally:
            for engine in engines:
                await engine.leave()
                await engine.close()

    findings = asyncio.run(work())
    said = [finding.found for finding in findings]
    assert any(text.startswith("3 alive: n0 (") and "n2 (draining, " in text for text in said)
    assert "another version of the application runs on n1" in said
    assert f"schema version {len(STEPS)}" in said


def test_the_command_looks_at_a_server(postgres: str, tmp_path: Path) -> None:
    """As it looks at a data directory."""
    secret = postgres.replace("postgres@", "postgres:sesame@")
    answer = json.loads(stead("doctor", "--data", tmp_path, "--engine", secret, "--json").stdout)
    assert answer["ok"] and "sesame" not in str(answer)
    assert {"durability", "durable commit", "replication", "clock"} <= {finding["subject"] for finding in answer["findings"]}


def test_settings_that_lose_data_have_failed() -> None:
    """Without flushes, or with commits that do not wait for them, a server breaks what Stead promises; one that waits for a standby
    that is not there makes nothing durable at all.
    """
    with new_place() as place:
        database = Database(place)
        database.create()
        database.start(fsync="off", synchronous_commit="off")
        try:
            assert findings_of(database.dsn)["durability"].level is Level.FAILED
            database.stop()
            database.start(synchronous_standby_names="*")
            found = findings_of(database.dsn)
        finally:
            database.stop()
    assert found["replication"].level is Level.FAILED and "until then no commit ends" in found["replication"].remedy


def test_standbys_are_told_apart() -> None:
    """An asynchronous one is warned of, a synchronous one is well; one whose address was given is refused."""
    with running() as primary, new_place() as place:
        standby = Database(place)
        standby.copy_of(primary)
        standby.start()
        try:
            _wait_until_followed(primary.dsn)
            found = findings_of(primary.dsn)["replication"]
            assert found.level is Level.WARNING and "may lose the last" in found.remedy
            primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.query("SELECT pg_reload_conf()")
            _wait(lambda: findings_of(primary.dsn)["replication"].level is Level.OK)
            role = findings_of(standby.dsn)["role"]
            assert role.level is Level.FAILED and "primary" in role.remedy
        finally:
            standby.stop()


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_pooler_is_found(postgres: str, mode: str) -> None:
    """In every mode, and whether what Stead needs works through it."""
    with pooler(postgres, mode) as dsn:
        found, condition = findings_of(dsn)["pooler"], condition_of(dsn).pooler
    assert condition is not None and condition.has_transactions is (mode != "statement")
    if mode == "session":
        assert condition.knows_prepared and found.level is Level.OK
    elif mode == "transaction":
        assert condition.knows_prepared is not None
        assert found.level is (Level.OK if condition.knows_prepared else Level.WARNING)
    else:
        assert found.level is Level.FAILED and "pool_mode" in found.remedy


def test_a_pooler_with_one_connection_is_too_small(postgres: str) -> None:
    """Nothing else can be said of it, and nothing hangs."""
    with pooler(postgres, size=1) as dsn:
        found = findings_of(dsn)["pooler"]
    assert found.level is Level.WARNING and "default_pool_size" in found.remedy


def _wait_until_followed(dsn: str) -> None:
    _wait(lambda: [standby.state for standby in condition_of(dsn).standbys or ()] == ["streaming"])


def _wait(is_so: object) -> None:
    assert callable(is_so)
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not is_so():
        assert SystemClock().elapsed_s() < until_s
        Event().wait(POLL_S)
