"""Counters in three kinds of state."""

from __future__ import annotations

from tests.crash.connection import Connection
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load
from tests.crash.workloads.rising import Numbers


class Counters:
    """The counters of `examples/counter`: in an attribute, under a key, in SQL."""

    name = "counters"
    place = ROOT / "examples" / "counter"

    def __init__(self) -> None:
        self._numbers = Numbers([f"/{kind}/{name}" for kind in ("counter", "kv", "sql") for name in NAMES])

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, paths = client, self._numbers.paths
        while True:
            number += 1
            await self._numbers.ask(connection, paths[number % len(paths)], load)

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        faults: list[str] = []
        for path in self._numbers.paths:
            status, number = await connection.ask("GET", path)
            faults += self._numbers.faults(path, number) if status == 200 else [f"{path} was answered with {status}: {number}"]
        return faults
