"""Actors by the thousand: one small key each (`keyed`), or one row in SQL (`tabled`). They leave memory only when it is short."""

from __future__ import annotations

import asyncio
from typing import Any

from stead import Actor, Request, Service, reads, route

AT_A_TIME = 200  # actors that a request fills together
PAGE_ACTORS = 1000


class Keyed(Actor):
    hibernate_after_s = 3600.0

    async def put(self, number: int) -> None:
        await self.storage.put("number", number)

    @reads
    async def get(self) -> int:
        return await self.storage.get("number", -1, type=int)


class Tabled(Actor):
    hibernate_after_s = 3600.0

    async def put(self, number: int) -> None:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER NOT NULL)")
        await self.sql.execute("INSERT INTO numbers VALUES (?)", number)

    @reads
    async def get(self) -> int:
        number = await self.sql.fetch_value("SELECT number FROM numbers")
        assert isinstance(number, int)
        return number


class Api(Service):
    @route("POST", "/{unit}/fill/{start:int}/{end:int}")
    async def fill(self, request: Request, unit: str, start: int, end: int) -> None:
        namespace = self._namespace(unit)
        for first in range(start, end, AT_A_TIME):
            numbers = range(first, min(first + AT_A_TIME, end))
            await asyncio.gather(*(namespace.get(f"{number:07}").put(number) for number in numbers))

    @route("GET", "/{unit}/page")
    async def page(self, request: Request, unit: str) -> dict[str, Any]:
        page = await self._namespace(unit).list(limit=PAGE_ACTORS, cursor=request.query_params.get("cursor"))
        return {"names": [actor.name for actor in page.actors], "cursor": page.cursor}

    @route("GET", "/{unit}/{name}")
    async def get(self, request: Request, unit: str, name: str) -> str:
        return str(await self._namespace(unit).get(name).get())

    def _namespace(self, unit: str) -> Any:
        return {"keyed": self.env.KEYED, "tabled": self.env.TABLED}[unit]
