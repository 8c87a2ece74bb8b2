"""The nodes of the cluster: each a `stead serve` of its own, with a port of its own that it keeps."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.attack import STEAD
from tests.crash.connection import in_time
from tests.postgres.server import free_port

APPLICATION = Path(__file__).with_name("app")
START_S_MAX = 60.0  # many times what it takes, so that a loaded machine is no failure
END_S_MAX = 60.0
PR_SET_PDEATHSIG = 1


@dataclass
class Node:
    """One of them, dead or alive."""

    name: str
    dsn: str
    lease_s: float
    place: Path
    launcher: tuple[str, ...] = STEAD  # the interpreter's arguments that stand for the command `stead`
    port: int = field(default_factory=free_port)
    process: Process | None = None
    code: int | None = None  # with which it ended last

    @property
    def data(self) -> Path:
        return self.place / self.name

    @property
    def log(self) -> Path:
        return self.place / f"{self.name}.log"

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
        environ["TORTURE_NODE"] = self.name
        flags = ["--engine", self.dsn, "--node-name", self.name, "--port", str(self.port), "--data", str(self.data)]
        flags += ["--lease-s", str(self.lease_s)]
        command = [sys.executable, *self.launcher, "serve", str(APPLICATION), *flags]
        with self.log.open("ab") as log:
            self.process = await create_subprocess_exec(*command, stdout=PIPE, stderr=log, env=environ, preexec_fn=_end_with_parent)
        assert self.process.stdout is not None
        async with in_time(f"`ready` of {self.name}", START_S_MAX):
            line = await self.process.stdout.readline()
        assert line.startswith(b"ready "), self.log.read_text()[-2000:]

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait_end(self) -> None:
        assert self.process is not None
        async with in_time(f"the end of {self.name}", END_S_MAX):
            self.code = await self.process.wait()
        self.process = None


@asynccontextmanager
async def cluster(count: int, dsn: str, lease_s: float, place: Path, launcher: tuple[str, ...]) -> AsyncIterator[list[Node]]:
    """So many nodes, ready; none is left afterwards."""
    nodes = [Node(f"n{number}", dsn, lease_s, place, launcher) for number in range(count)]
    try:
        await nodes[0].start()  # alone: it makes the tables
        await asyncio.gather(*(node.start() for node in nodes[1:]))
        yield nodes
    finally:
        for node in nodes:
            if node.process is not None and node.process.returncode is None:
                node.process.kill()
        await asyncio.gather(*(node.wait_end() for node in nodes if node.process is not None))


async def stead(*arguments: str) -> str:
    """What the command `stead` prints. Raises `AssertionError` with what it says if it fails."""
    process = await create_subprocess_exec(
        sys.executable, *STEAD, *arguments, stdout=PIPE, stderr=PIPE, preexec_fn=_end_with_parent
    )
    try:
        async with in_time(f"stead {' '.join(arguments)}", END_S_MAX):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"stead {' '.join(arguments)}: {err.decode()}"
    return out.decode()


def _end_with_parent() -> None:
    """Have the kernel end it where the torture itself dies: nobody else would."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
