"""Ledgers whose every turn writes the same number in six places: two keys, SQL, an attribute, an alarm and its payload.

Whoever sees two of them differ has seen a torn turn. The alarm is due a moment later and notes the number once more, so an alarm
that was lost shows as a number that never arrives.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stead import Actor, AlarmInfo, HTTPException, Request, Service, durable, reads, route

ALARM_AFTER = timedelta(milliseconds=150)  # so short that the server is killed around alarms as well
PADDING = "x" * 700  # of a row: six to a page of SQL, so that a turn writes several pages now and then


class Ledger(Actor):
    number: int = durable(0)
    ticked: int = durable(0)

    async def on_start(self) -> None:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY, padding TEXT NOT NULL)")

    async def write(self) -> int:
        number = self.number + 1
        await self.storage.put("left", number)
        await self.sql.execute("INSERT INTO lines VALUES (?, ?)", number, PADDING)
        await self.alarms.set("tick", ALARM_AFTER, payload=number)
        await self.storage.put("right", number)
        self.number = number
        return number

    async def write_and_fail(self) -> None:
        """Write as `write` does, and raise: nothing of it may ever be seen."""
        await self.write()
        raise HTTPException(409, "this turn was to fail")

    @reads
    async def show(self) -> dict[str, Any]:
        alarm = await self.alarms.get("tick")
        return {
            "attribute": self.number,
            "left": await self.storage.get("left", 0),
            "right": await self.storage.get("right", 0),
            "sql_lines": await self.sql.fetch_value("SELECT count(*) FROM lines"),
            "sql_last": await self.sql.fetch_value("SELECT coalesce(max(number), 0) FROM lines"),
            "alarm": self.ticked if alarm is None else alarm.payload,
            "ticked": self.ticked,
        }

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.ticked = alarm.payload


class Api(Service):
    @route("POST", "/ledgers/{name}")
    async def write(self, request: Request, name: str) -> str:
        return str(await self.env.actor(Ledger).get(name).write())

    @route("POST", "/ledgers/{name}/fail")
    async def write_and_fail(self, request: Request, name: str) -> None:
        await self.env.actor(Ledger).get(name).write_and_fail()

    @route("GET", "/ledgers/{name}")
    async def show(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Ledger).get(name).show()
