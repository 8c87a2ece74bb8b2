"""Turns that write in many places."""

from __future__ import annotations

from tests.crash.connection import Connection, patiently
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load
from tests.crash.workloads.rising import Numbers

ALARM_S_MAX = 30.0  # alarms are due 0.15 s after a write; the rest is patience with a loaded machine
REQUESTS_PER_FAILURE = 8  # every eighth turn of a ledger is one that fails after writing


class Ledgers:
    """The ledgers of `tests/crash/apps/ledgers`, which write one number in many places and fail now and then."""

    name = "ledgers"
    place = ROOT / "tests" / "crash" / "apps" / "ledgers"

    def __init__(self) -> None:
        self._numbers = Numbers([f"/ledgers/{name}" for name in NAMES])

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, paths = client, self._numbers.paths
        while True:
            number += 1
            path = paths[number % len(paths)]
            await self._numbers.ask(connection, path, load)
            if number % REQUESTS_PER_FAILURE == 0:
                status, answer = await connection.ask("POST", f"{path}/fail")
                if status != 409:
                    load.faults.append(f"{path}/fail was answered with {status}: {answer}")

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        faults: list[str] = []
        for path in self._numbers.paths:
            status, ledger = await connection.ask("GET", path)
            if status != 200:
                faults.append(f"{path} was answered with {status}: {ledger}")
            elif any(ledger[place] != ledger["attribute"] for place in ("left", "right", "sql_lines", "sql_last", "alarm")):
                faults.append(f"{path} is torn: {ledger}")
            else:
                faults += self._numbers.faults(path, ledger["attribute"])
                faults += await self._lost_alarm(connection, path)
        return faults

    async def _lost_alarm(self, connection: Connection, path: str) -> list[str]:
        async def look() -> list[str]:
            _, ledger = await connection.ask("GET", path)
            return [] if ledger["ticked"] == ledger["attribute"] else [f"{path} waits for an alarm that was lost: {ledger}"]

        return await patiently(look, ALARM_S_MAX)
