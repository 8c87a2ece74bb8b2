"""Rounds against one workload: serve, check, load, kill."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stead.clock import sleep
from stead.ids import Chance
from tests.crash.connection import NeverCame, ServerGone, connected, in_time
from tests.crash.stored import Stored
from tests.crash.workload import Load, Workload

LOAD_S_MIN, LOAD_S_MAX = 0.2, 1.0  # from the first request to the kill
START_S_MAX = 60.0  # a server that needs longer to be ready does not start at all
END_S_MAX = 30.0  # of a process that was killed
UNCHECKED_EVERY = 3  # restarts: clients begin at once, and the next kill finds what the one before left undone
STEAD = ("-c", "from stead.cli import main; main()")


@dataclass(frozen=True)
class Outcome:
    """A round as it is reported; `faults` are those of the answers and those found after the restart."""

    workload: str
    round: int
    killed_after_ms: int
    acknowledged: int
    in_doubt: int
    restart_ms: int
    faults: list[str]


@dataclass(frozen=True)
class Attack:
    """Rounds against one workload, all on one data directory."""

    workload: Workload
    data: Path
    clients: int
    chance: Chance
    launcher: tuple[str, ...] = STEAD  # the interpreter's arguments that stand for the command `stead`

    async def run(self, rounds: int) -> AsyncIterator[Outcome]:
        """Each round's outcome, once the server has been started again and, mostly, checked. The first with faults is the last."""
        load, killed_after_s = Load(0), 0.0
        for number in range(1, rounds + 2):
            began_s = asyncio.get_running_loop().time()
            async with self._server() as (server, port):
                restart_s = asyncio.get_running_loop().time() - began_s
                is_checked = number % UNCHECKED_EVERY or number > rounds
                faults = load.faults + (await self._check(port) if is_checked else [])
                if number > 1 or faults:
                    counts = (load.acknowledged, load.in_doubt, round(restart_s * 1000))
                    yield Outcome(self.workload.name, number - 1, round(killed_after_s * 1000), *counts, faults)
                if faults:
                    return
                load = Load(number)
                killed_after_s = LOAD_S_MIN + (LOAD_S_MAX - LOAD_S_MIN) * self.chance.fraction()
                if number <= rounds:
                    await self._load(server, port, killed_after_s, load)

    async def _check(self, port: int) -> list[str]:
        try:
            async with connected(port) as connection:
                return await self.workload.faults(connection, Stored(self.data))
        except ServerGone:
            return ["the server ended by itself while it was asked what it has"]
        except NeverCame as exc:
            return [str(exc)]

    async def _load(self, server: Process, port: int, killed_after_s: float, load: Load) -> None:
        async with asyncio.TaskGroup() as tasks:
            for client in range(self.clients):
                tasks.create_task(self._work(client, port, load))
            await sleep(killed_after_s)
            if server.returncode is None:
                server.kill()
            else:
                load.faults.append(f"the server ended by itself with {server.returncode}")
        await self._ended(server)

    async def _ended(self, server: Process) -> None:
        async with in_time(f"the end of the server on {self.data}", END_S_MAX):
            await server.wait()

    async def _work(self, client: int, port: int, load: Load) -> None:
        try:
            async with connected(port) as connection:
                await self.workload.work(client, connection, load)
        except ServerGone:
            load.in_doubt += 1
        except NeverCame as exc:
            load.faults.append(str(exc))

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[tuple[Process, int]]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
        arguments = (*self.launcher, "serve", self.workload.place, "--port", "0", "--data", self.data)
        server = await create_subprocess_exec(sys.executable, *map(str, arguments), stdout=PIPE, stderr=None, env=environ)
        try:
            assert server.stdout is not None
            async with in_time(f"`ready` of the server on {self.data}", START_S_MAX):
                line = (await server.stdout.readline()).decode()
            if not line.startswith("ready "):
                sys.exit(f"the server did not start again: its data is in {self.data}")
            yield server, urlsplit(line.split()[1]).port or 0
        finally:
            if server.returncode is None:
                server.kill()
            await self._ended(server)
