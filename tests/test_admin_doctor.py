"""What `stead doctor` makes of a machine, a data directory and a server's condition."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.admin import ServerAddress, write_address
from stead.admin.doctor import Finding, Level, Place, machine_findings, sqlite_findings
from stead.admin.doctor.machine import file_system, free_space, open_files
from stead.admin.doctor.postgres import judged
from stead.clock import SystemClock
from stead.storage.membership import Member, NodeInfo
from stead.storage.postgres.condition import Condition, Pooler, Standby
from stead.storage.postgres.schema import FILLING, STEPS
from stead.storage.sqlite import divide, share_directory
from tests.test_cli import stead
from tests.test_storage_transfer import made

MIB = 1024 * 1024
SOUND = Condition(
    where="postgresql://stead@db/stead",
    version=160_004,
    version_text="16.4",
    is_standby=False,
    settings={
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "transaction_read_only": "off",
        "synchronous_standby_names": "*",
    },
    connections_used=20,
    connections_max=97,
    round_trip_s=0.0004,
    commit_s=0.002,
    ahead_s=0.0,
    schema_version=len(STEPS),
    standbys=[Standby("b", "streaming", "sync", 0, 0.0)],
    members=[
        Member(1, NodeInfo("ann", "a:1", application="x"), False, 5.0),
        Member(2, NodeInfo("bob", "b:1", application="x"), True, 4.0),
    ],
    pooler=None,
)


def worst(findings: list[Finding]) -> dict[str, tuple[Level, str]]:
    """What is not well, by subject, with what was found and what to do."""
    return {
        finding.subject: (finding.level, f"{finding.found} | {finding.remedy}")
        for finding in findings
        if finding.level in {Level.WARNING, Level.FAILED}
    }


def test_a_sound_server_has_nothing_to_say_against_it() -> None:
    """And its live nodes are named, with their leases."""
    findings = judged(SOUND)
    assert {finding.level for finding in findings} == {Level.OK}
    assert "2 alive: ann (5.0 s left), bob (draining, 4.0 s left)" in [finding.found for finding in findings]


def settings(**changed: str) -> dict[str, Any]:
    return {"settings": {**SOUND.settings, **changed}}


@pytest.mark.parametrize(
    ("changes", "subject", "level", "said"),
    [
        ({"version": 130_011, "version_text": "13.11"}, "engine", Level.FAILED, "14 or later"),
        ({"is_standby": True}, "role", Level.FAILED, "the address of the primary"),
        (settings(transaction_read_only="on"), "role", Level.FAILED, "default_transaction_read_only"),
        (settings(server_encoding="LATIN1"), "encoding", Level.FAILED, "ENCODING 'UTF8'"),
        ({"schema_version": FILLING}, "tables", Level.FAILED, "migrate-engine"),
        ({"schema_version": 99}, "tables", Level.FAILED, "install the release"),
        (settings(fsync="off"), "durability", Level.FAILED, "set fsync = on"),
        (settings(synchronous_commit="off"), "durability", Level.FAILED, "set synchronous_commit = on"),
        (settings(full_page_writes="off"), "durability", Level.FAILED, "set full_page_writes = on"),
        ({"round_trip_s": 0.02}, "round trip", Level.WARNING, "20.00 ms"),
        ({"commit_s": 0.2}, "durable commit", Level.WARNING, "200.00 ms"),
        ({"standbys": []}, "replication", Level.FAILED, "until then no commit ends"),
        (settings(synchronous_commit="local"), "replication", Level.WARNING, "does not wait"),
        ({"standbys": [Standby("b", "streaming", "async", 0, 0.0)], **settings(synchronous_standby_names="")}, "replication",
         Level.WARNING, "may lose the last"),
        ({"standbys": [Standby("b", "catchup", "sync", 0, None)]}, "replication", Level.WARNING, "does not follow yet"),
        ({"standbys": [Standby("b", "streaming", "sync", 80 * MIB, 0.1)]}, "replication", Level.WARNING, "it lags"),
        ({"standbys": [Standby("b", "streaming", "sync", 0, 60.0)]}, "replication", Level.WARNING, "it lags"),
        ({"pooler": Pooler(False, None)}, "pooler", Level.FAILED, "pool_mode = transaction"),
        ({"pooler": Pooler(True, False)}, "pooler", Level.WARNING, "max_prepared_statements"),
        ({"pooler": Pooler(True, None)}, "pooler", Level.WARNING, "default_pool_size"),
        ({"connections_max": 8}, "connections", Level.WARNING, "2 nodes and one that starts anew want 12"),
        ({"connections_used": 95}, "connections", Level.WARNING, "another node would find none"),
        ({"ahead_s": 1.5}, "clock", Level.WARNING, "1.5 s ahead of"),
        ({"ahead_s": -3600.0}, "clock", Level.WARNING, "3,600.0 s behind"),
        ({"members": [Member(n, NodeInfo(f"n{n}", "a:1", application="x" if n else "y"), False, 5) for n in range(3)]}, "nodes",
         Level.WARNING, "runs on n0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_server_is_said(changes: dict[str, Any], subject: str, level: Level, said: str) -> None:
    """One thing wrong is one finding more, with what to do; nothing else is complained about."""
    found = worst(judged(msgspec.structs.replace(SOUND, **changes)))
    assert list(found) == [subject]
    assert found[subject][0] is level and said in found[subject][1]


def test_what_a_server_does_not_tell_is_no_fault() -> None:
    """A relative of PostgreSQL, or a user with few rights: notes, that say what was not looked at."""
    silent = msgspec.structs.replace(
        SOUND, version=None, is_standby=None, settings={}, connections_max=None, connections_used=None, commit_s=None, standbys=None
    )
    assert worst(judged(silent)) == {}
    assert sum("does not tell" in finding.found for finding in judged(silent)) == 3


def test_a_pooler_that_does_it_all_is_well() -> None:
    """Then the server's own limit of connections is not the nodes' any more."""
    assert worst(judged(msgspec.structs.replace(SOUND, pooler=Pooler(True, True), connections_max=30))) == {}


def test_the_data_directory_is_tried(tmp_path: Path) -> None:
    """Writing and flushing there, not its permissions; one that is not there yet is made by the first start."""
    clock = SystemClock()
    findings = machine_findings(Place(tmp_path, True), clock)
    assert worst(findings).keys() <= {"open files", "disk space", "disk flush", "file system"}
    assert list(tmp_path.iterdir()) == []
    first = machine_findings(Place(tmp_path / "a" / "b", True), clock)[0]
    assert first.level is Level.NOTE and "first start makes it" in first.found
    (tmp_path / "file").write_text("")
    assert machine_findings(Place(tmp_path / "file", True), clock)[0].level is Level.FAILED
    assert machine_findings(Place(tmp_path / "file" / "a", True), clock)[0].level is Level.FAILED
    assert machine_findings(Place(Path("/proc/self"), True), clock)[0].level is Level.FAILED


def test_the_kind_of_file_system_is_the_one_of_the_nearest_mount(tmp_path: Path) -> None:
    """A database on a network is refused, a directory of secrets there is not; memory is warned of."""
    data = tmp_path / "a b" / "data"
    mounts = tmp_path / "mounts"
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / {escaped} rw shared:1 - nfs4 server:/x rw\n")
    data.mkdir(parents=True)
    for holds_actors, level in ((True, Level.FAILED), (False, Level.NOTE)):
        found = [f for f in machine_findings(Place(data, holds_actors), SystemClock(), mounts) if f.subject == "file system"]
        assert [finding.level for finding in found] == [level] and "nfs4" in found[0].found
    beside = machine_findings(Place(tmp_path, True), SystemClock(), mounts)
    assert [finding.found for finding in beside if finding.subject == "file system"] == [f"{tmp_path} is on ext4"]
    assert file_system(Place(data, True), "tmpfs").level is Level.WARNING


def test_limits_of_the_machine() -> None:
    """Free space and open files: well, soon not, not."""
    levels = [free_space(size * MIB, 100_000 * MIB).level for size in (10_000, 1_000, 100)]
    assert levels == [Level.OK, Level.WARNING, Level.FAILED]
    infinite = resource.RLIM_INFINITY
    assert [open_files(soft, infinite).level for soft in (infinite, 65_536, 1024, 256)] == [
        Level.OK,
        Level.OK,
        Level.WARNING,
        Level.FAILED,
    ]
    assert "as root" in open_files(1024, 1024).remedy


def test_the_limit_of_files_is_the_servers(tmp_path: Path) -> None:
    """Where one runs on the directory; a unit of systemd has another one than the shell of who asks."""
    with subprocess.Popen(["sh", "-c", "ulimit -n 200; echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline()
        write_address(tmp_path, ServerAddress(server.pid, "http://127.0.0.1:1", "token"))
        found = [finding for finding in machine_findings(Place(tmp_path, True), SystemClock()) if finding.subject == "open files"]
        server.communicate()
    assert [(finding.level, finding.found) for finding in found] == [(Level.FAILED, "200 at a time")]


def test_a_database_is_read_whole(tmp_path: Path) -> None:
    """A sound one is counted, a damaged, lost or strange one has failed, and what is left of an interrupted move is shown."""
    assert sqlite_findings(tmp_path / "nowhere") == []
    assert sqlite_findings(tmp_path)[-1].level is Level.NOTE
    asyncio.run(made(tmp_path))
    file = tmp_path / "stead.sqlite"
    findings = sqlite_findings(tmp_path)
    assert worst(findings) == {} and "4 actors" in findings[-1].found
    (tmp_path / "moving").mkdir()
    assert "migrate-engine" in worst(sqlite_findings(tmp_path))["layout"][1]
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(os.urandom(100_000))
    level, said = worst(sqlite_findings(tmp_path))["engine"]
    assert level is Level.FAILED and "restore a backup" in said
    file.write_bytes(b"")
    assert "missing or empty" in worst(sqlite_findings(tmp_path))["engine"][1]
    file.write_text("not a database at all" * 100)
    assert worst(sqlite_findings(tmp_path))["engine"][0] is Level.FAILED


def test_each_share_of_a_divided_directory_is_read(tmp_path: Path) -> None:
    """A damaged one is found among whole ones, and named; a layout that says nothing has failed."""
    asyncio.run(made(tmp_path))
    divide(tmp_path, 3, lambda done, total: None)
    findings = sqlite_findings(tmp_path)
    assert worst(findings) == {} and findings[0].found == "3 databases, one for each worker" and len(findings) == 4
    (share_directory(tmp_path, 1, 3) / "stead.sqlite").write_bytes(b"x" * 5000)
    assert str(share_directory(tmp_path, 1, 3)) in worst(sqlite_findings(tmp_path))["engine"][1]
    (tmp_path / "layout").write_text("?")
    assert "layout should be the number" in worst(sqlite_findings(tmp_path))["engine"][1]


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    """The exit code says whether anything has failed; a password is never shown."""
    asyncio.run(made(tmp_path / "data"))
    result = stead("doctor", "--data", tmp_path / "data")
    assert "4 actors" in result.stdout and "0 failed" in result.stdout
    answer = json.loads(stead("doctor", "--data", tmp_path / "data", "--json").stdout)
    assert answer["ok"] and {"subject", "level", "found", "remedy"} == set(answer["findings"][0])
    (tmp_path / "data" / "stead.sqlite").write_text("x" * 1000)
    assert json.loads(stead("doctor", "--data", tmp_path / "data", "--json", code=1).stdout)["ok"] is False
    for engine in ("postgres://ann:sesame@127.0.0.1:1/x", "mysql://ann:sesame@b/c", "postgres://ann:se/same@127.0.0.1:x/y"):
        output = stead("doctor", "--data", tmp_path / "data", "--engine", engine, code=1).output
        assert "same" not in output and "ann" in output
