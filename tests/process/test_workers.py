"""`stead serve --workers`: several processes behind one port, on one data directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stead.clock import SystemClock
from stead.storage.sqlite import is_alive, share_directory
from tests.test_cli import stead

if TYPE_CHECKING:
    from tests.process.conftest import Serve, Server

pytestmark = pytest.mark.process

COUNTER = Path(__file__).parents[2] / "examples" / "counter"
COUNTED = Path(__file__).parents[1] / "torture" / "app"
LIMIT_S = 60.0
POLL_S = 0.05
KEYS = [f"key-{number}" for number in range(24)]


def member_pid(data: Path, index: int, count: int) -> int:
    """The process of a worker, 0 while there is none."""
    path = share_directory(data, index, count) / "member"
    return int(json.loads(path.read_bytes())["pid"]) if path.exists() else 0


def increment(server: Server, key: str) -> int:
    """What a counter is now; each request comes over a connection of its own, and so to any worker."""
    response = server.ask("POST", f"/kv/{key}")
    response.raise_for_status()
    return int(response.text)


def increment_when_possible(server: Server, key: str) -> int:
    """`increment`, asked again while nothing runs: the worker that has it is starting, or its socket is just gone."""
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while True:
        try:
            return increment(server, key)
        except (httpx.ConnectError, httpx.HTTPStatusError) as exc:
            assert not isinstance(exc, httpx.HTTPStatusError) or exc.response.status_code == 503, exc
            assert SystemClock().elapsed_s() < until_s, "the worker does not come back"
            Event().wait(POLL_S)


def until(condition: Callable[[], bool]) -> None:
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not condition():
        assert SystemClock().elapsed_s() < until_s, "it did not come"
        Event().wait(POLL_S)


def asked(*arguments: str | Path) -> Any:
    return json.loads(stead(*arguments, "--json").stdout)


def test_workers_are_one_server(serve: Serve, tmp_path: Path) -> None:
    """Every worker serves every actor, one that is killed comes back with what it had, and another number of them has it all."""
    data = tmp_path / "data"
    with serve(COUNTER, data, "--workers", "3") as server:
        for turn in (1, 2):
            assert [increment(server, key) for key in KEYS] == [turn] * len(KEYS)
        listed = asked("actors", "list", "--data", data, "--all")
        assert [actor["id"] for actor in listed["actors"]] == sorted(f"kv-counter/{key}" for key in KEYS)
        victim = member_pid(data, 1, 3)
        os.kill(victim, signal.SIGKILL)
        until(lambda: "worker 1 ended with signal 9" in server.errors.read_text())  # it takes no connection any more
        assert [increment_when_possible(server, key) for key in KEYS] == [3] * len(KEYS)
        assert member_pid(data, 1, 3) not in {0, victim}
        workers = [member_pid(data, index, 3) for index in range(3)]
        assert server.end(signal.SIGTERM) == 0
        assert not any(map(is_alive, workers))
    for count in ("1", "2"):
        with serve(COUNTER, data, "--workers", count) as server:
            assert [increment(server, key) for key in KEYS] == [4 if count == "1" else 5] * len(KEYS)
            assert server.end(signal.SIGTERM) == 0
    said = server.errors.read_text()
    assert [line.partition("among ")[2] for line in said.splitlines() if "divided" in line or not line] == [
        "1 instead of 3: 24 actors",
        "2 instead of 1: 24 actors",
    ]


def test_operators_reach_every_worker(serve: Serve, tmp_path: Path) -> None:
    """The workers are listed as nodes, an actor of any of them is deleted, and none leaves its share."""
    data = tmp_path / "data"
    with serve(COUNTER, data, "--workers", "3") as server:
        for key in KEYS:
            increment(server, key)
        nodes = asked("nodes", "list", "--data", data)["nodes"]
        assert len(nodes) == 3 and sum(node["actors"] for node in nodes) == len(KEYS)
        for key in KEYS:
            assert asked("actors", "delete", f"kv-counter/{key}", "--yes", "--data", data) == {"deleted": f"kv-counter/{key}"}
        assert [increment(server, key) for key in KEYS] == [1] * len(KEYS)
        for command in (["actors", "move", "kv-counter/key-1", nodes[0]["name"]], ["nodes", "drain", nodes[0]["name"]]):
            assert "workers that share a data directory" in stead(*command, "--data", data, code=1).stderr
        assert server.end(signal.SIGTERM) == 0


def test_a_key_is_one_key_at_every_worker(serve: Serve, tmp_path: Path) -> None:
    """Requests with keys are answered once, whichever worker they come to and whichever keeps the answer."""
    with serve(COUNTED, tmp_path / "data", "--workers", "2") as server:
        for number in range(6):
            headers = {"Idempotency-Key": f"k{number}"}
            first, second = (server.ask("POST", f"/counters/{number}", headers=headers) for _ in range(2))
            assert first.status_code == 200 and first.json()["value"] == 1
            assert second.json() == first.json() and second.headers["idempotent-replayed"] == "true"


def test_no_worker_outlives_its_parent(serve: Serve, tmp_path: Path) -> None:
    """When the parent is killed, the workers stop by themselves, and the next server takes over their files."""
    data = tmp_path / "data"
    with serve(COUNTER, data, "--workers", "2") as server:
        assert increment(server, "a") == 1
        workers = [member_pid(data, index, 2) for index in range(2)]
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not any(map(is_alive, workers)))
    with serve(COUNTER, data, "--workers", "2") as server:
        assert increment(server, "a") == 2


def test_what_cannot_begin_is_said_once(tmp_path: Path) -> None:
    """A taken port, and an application that cannot be loaded, end the command with one error and exit code 1 or more."""
    (tmp_path / "stead.manifest").write_text('application "a" {\n  actor "box" {}\n}\n')
    (tmp_path / "app.py").write_text("raise RuntimeError('broken on purpose')\n")

    def refused(place: Path, port: int) -> str:
        command = [sys.executable, "-c", "from stead.cli import main; main()", "serve", str(place), "--workers", "2"]
        command += ["--port", str(port), "--data", str(tmp_path / "data")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert result.returncode != 0 and result.stdout == ""
        return result.stderr

    assert "broken on purpose" in refused(tmp_path, 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "is taken" in refused(COUNTER, other.getsockname()[1])
