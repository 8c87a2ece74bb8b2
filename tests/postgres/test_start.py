"""`stead serve` over a PostgreSQL that is not there yet: whichever machine comes first after a power cut."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from stead.clock import SystemClock
from tests.postgres.server import Database, running
from tests.process.conftest import LIMIT_S, STEAD, environment, serving

pytestmark = pytest.mark.process

COUNTER = Path(__file__).parents[2] / "examples" / "counter"
WAITS = "the server does not answer: see that it runs and can be reached; a node waits for it"


@pytest.fixture
def database() -> Iterator[Database]:
    """A server of its own, to be stopped."""
    with running() as database:
        yield database


def wait_told(errors: Path, text: str, count: int = 1) -> None:
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not errors.exists() or errors.read_text().count(text) < count:
        assert SystemClock().elapsed_s() < until_s, errors.read_text()
        Event().wait(0.05)


def test_a_node_waits_for_its_database(database: Database, tmp_path: Path) -> None:
    """It says so once, and is ready when the database has come."""
    database.stop()
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        starting = threads.submit(stack.enter_context, serving(COUNTER, tmp_path / "a", "--engine", database.dsn))
        wait_told(tmp_path / "a.stderr", WAITS)
        assert not starting.done()
        database.start()
        node = starting.result(LIMIT_S)
        assert node.ask("POST", "/kv/x").text == "1"
        said = node.errors.read_text()
        assert said.count("error:") == 0 and said.count(WAITS) == 1
        assert node.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_who_waits_can_be_stopped(database: Database, tmp_path: Path, workers: int) -> None:
    """At once, with all its workers, and it is no failure."""
    database.stop()
    errors = tmp_path / "stderr"
    flags = ["--port", "0", "--data", str(tmp_path / "a"), "--engine", database.dsn, "--workers", str(workers)]
    with errors.open("wb") as file:
        process = subprocess.Popen([sys.executable, *STEAD, "serve", str(COUNTER), *flags], stderr=file, env=environment())
    try:
        wait_told(errors, WAITS, workers)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in errors.read_text() and "killed" not in errors.read_text()


def test_what_waiting_does_not_mend_is_said_at_once(database: Database, tmp_path: Path) -> None:
    """A database that there is not, for instance."""
    command = [
        sys.executable,
        *STEAD,
        "serve",
        str(COUNTER),
        "--port",
        "0",
        "--data",
        str(tmp_path),
        "--engine",
        f"{database.dsn}x",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment(), check=False)
    assert result.returncode == 1 and "has no such database: create it" in result.stderr
