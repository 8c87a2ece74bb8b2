"""`stead nodes`, `stead actors move`, `stead doctor` and `stead migrate-engine` beside real nodes over one database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stead.cli import app
from stead.clock import SystemClock
from tests.process.conftest import LIMIT_S, Server, serving
from tests.test_cli import stead

pytestmark = pytest.mark.process

COUNTER = Path(__file__).parents[2] / "examples" / "counter"
KEYS = [f"key-{number}" for number in range(20)]


@contextmanager
def node(dsn: str, place: Path, name: str) -> Iterator[Server]:
    key = place / "key"
    if not key.exists():
        key.write_text("0123456789abcdef" * 4)
        key.chmod(0o600)
    flags = ["--engine", dsn, "--node-name", name, "--cluster-key-file", str(key), "--lease-s", "3", "--region", "here"]
    with serving(COUNTER, place / name, *flags) as server:
        yield server


def increment(server: Server, key: str) -> int:
    response = server.ask("POST", f"/kv/{key}")
    response.raise_for_status()
    return int(response.text)


def wait_until_taken(taker: Server, other: Server, key: str) -> int:
    """Move an actor until the taker, which was drained, has heard that it may take some. Returns how often it was incremented."""
    until_s = SystemClock().elapsed_s() + LIMIT_S
    times = 0
    while True:
        times += 1
        increment(other, key)  # so that somebody has it
        result = CliRunner().invoke(app, ["actors", "move", f"kv-counter/{key}", "ann", "--data", str(taker.data)])
        if result.exit_code == 0 and "moved" in result.stdout:
            return times
        assert "does not take it at this moment" in result.output and SystemClock().elapsed_s() < until_s


def asked(*arguments: str | Path) -> Any:
    return json.loads(stead(*arguments, "--json").stdout)


def test_a_cluster_is_operated_from_any_node(dsn: str, tmp_path: Path) -> None:
    """Nodes are listed, drained until they own nothing and taken back, actors moved and deleted, and no count is lost."""
    with node(dsn, tmp_path, "ann") as ann, node(dsn, tmp_path, "bob") as bob:
        for server in (ann, bob):
            assert [increment(server, key) for key in KEYS] == [1 if server is ann else 2] * len(KEYS)
        lines = asked("nodes", "list", "--data", ann.data)["nodes"]
        assert [(line["name"], line["state"], line["region"], line["differs"]) for line in lines] == [
            ("ann", "up", "here", False),
            ("bob", "up", "here", False),
        ]
        assert sum(line["actors"] for line in lines) >= len(KEYS)
        assert "bob" in stead("nodes", "list", "--data", bob.data).stdout
        assert asked("nodes", "drain", "ann", "--wait", "--data", bob.data) == {"node": "ann", "state": "draining", "actors": 0}
        assert [increment(ann, key) for key in KEYS] == [3] * len(KEYS)
        assert asked("nodes", "list", "--data", ann.data)["nodes"][0]["actors"] == 0
        assert asked("nodes", "uncordon", "ann", "--data", bob.data) == {"node": "ann", "state": "up"}
        moves = wait_until_taken(ann, bob, "key-1")
        for name in ("bob", "ann"):
            moved = asked("actors", "move", "kv-counter/key-1", name, "--data", bob.data)
            assert moved == {"actor": "kv-counter/key-1", "node": name, "moved": True}
        assert increment(bob, "key-1") == 4 + moves
        asked("actors", "delete", "kv-counter/key-1", "--yes", "--data", bob.data)
        assert increment(ann, "key-1") == 1
        assert "no live node 'cleo'" in stead("nodes", "drain", "cleo", "--data", ann.data, code=1).stderr
        stead("nodes", "drain", "ann", "--data", ann.data)
        assert "no other node is up" in stead("nodes", "drain", "bob", "--wait", "--data", bob.data, code=1).stderr


def test_a_served_database_is_looked_at_and_not_moved(dsn: str, tmp_path: Path) -> None:
    """The doctor sees the node; a move is refused until it has stopped, and then another engine goes on counting."""
    with node(dsn, tmp_path, "ann") as ann:
        assert increment(ann, "a") == 1
        findings = asked("doctor", "--data", ann.data, "--engine", dsn)["findings"]
        assert any(finding["found"].startswith("1 alive: ann (") for finding in findings)
        assert "is served by ann" in stead("migrate-engine", dsn, tmp_path / "copy", code=1).stderr
        ann.process.terminate()
        assert ann.process.wait(LIMIT_S) == 0
    assert asked("migrate-engine", dsn, tmp_path / "copy")["actors"] >= 1
    with serving(COUNTER, tmp_path / "copy") as alone:
        assert increment(alone, "a") == 2
        assert "not part of a cluster" in stead("nodes", "list", "--data", alone.data, code=1).stderr
