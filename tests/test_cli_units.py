"""`stead tasks` and its kin as processes: beside a running server, and without one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

LIMIT_S = 60.0  # for a whole test: far more than it takes, so that a loaded machine is no failure
COMMAND = (sys.executable, "-c", "from stead.cli import main; main()")


def bounded(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work()

    asyncio.run(run())


async def start(place: Path, *arguments: str | Path, environ: dict[str, str] | None = None) -> Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
    command = (*COMMAND, *map(str, arguments))
    return await create_subprocess_exec(
        *command, cwd=place, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**inherited, **(environ or {})}
    )


async def stead(
    place: Path, *arguments: str | Path, code: int = 0, said: str = "", environ: dict[str, str] | None = None
) -> tuple[str, str]:
    """What a command prints on standard output and standard error; `said` is its standard input."""
    process = await start(place, *arguments, environ=environ)
    stdout, stderr = await process.communicate(said.encode())
    assert process.returncode == code, (stdout, stderr)
    assert b"Traceback" not in stderr
    return stdout.decode(), stderr.decode()


async def asked(place: Path, *arguments: str | Path, code: int = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads((await stead(place, *arguments, "--json", code=code))[0])


@asynccontextmanager
async def serving(place: Path, environ: dict[str, str] | None = None) -> AsyncIterator[tuple[Process, str]]:
    """A server of the application that is ready, and its address. It is killed at the end if it has not ended by itself."""
    process = await start(place, "serve", "--port", "0", environ=environ)
    assert process.stdout is not None and process.stderr is not None
    try:
        word, _, url = (await process.stdout.readline()).decode().strip().partition(" ")
        assert word == "ready", (await process.stderr.read()).decode()
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


TASKS = """application "a" {
  task "good" { cron = "@daily" timezone = "Europe/Berlin" }
  task "bad" { cron = "0 2 * * *" }
}
"""
TASKS_APP = """from stead import Task
class Good(Task):
    async def run(self, tick):
        with open("ran", "a") as file:
            file.write(tick.cron + "\\n")
class Bad(Task):
    async def run(self, tick):
        raise ValueError("no such file")
"""


def test_tasks_run_from_a_shell(tmp_path: Path) -> None:
    """With a server and without one they run, are listed with how it went, and keep their history through its end by `kill -9`."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(TASKS)
        (tmp_path / "app.py").write_text(TASKS_APP)
        async with serving(tmp_path) as (process, _):
            assert (await stead(tmp_path, "tasks", "run", "good"))[0].startswith("good: succeeded")
            failed = await asked(tmp_path, "tasks", "run", "bad", code=1)
            assert (failed["run"]["outcome"], failed["run"]["error"]) == ("failed", "ValueError: no such file")
            process.kill()
            await process.wait()
        listed = {task["name"]: task for task in (await asked(tmp_path, "tasks", "list"))["tasks"]}
        assert [listed[name]["last"]["outcome"] for name in ("good", "bad")] == ["succeeded", "failed"]
        assert listed["good"]["timezone"] == "Europe/Berlin" and listed["good"]["next_time"]
        assert (await stead(tmp_path, "tasks", "run", "good"))[0].startswith("good: succeeded")
        assert (tmp_path / "ran").read_text() == "@daily\n" * 2
        runs = (await asked(tmp_path, "tasks", "runs", "good"))["runs"]
        assert [run["number"] for run in runs] == [2, 1]
        assert "Europe/Berlin" in (await stead(tmp_path, "tasks", "list"))[0]
        assert "there are: good, bad" in (await stead(tmp_path, "tasks", "run", "godo", code=1))[1]

    bounded(work)
