"""What an operator can do with actors, and doing it to an engine directly. `admin.remote` does the same to a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import apsw

from stead.admin.export import Progress, export_actor, page_offset
from stead.admin.imports import page_entries
from stead.admin.nodes import Alone
from stead.admin.reading import SCAN_ROWS, find_row, read_batches
from stead.admin.views import ActorLine, ActorsPage, ActorView, TableLine, ValueLine, value_line
from stead.clock import Clock
from stead.errors import Invalid, Unavailable
from stead.ids import ActorId
from stead.storage.contract import ActorRow, Claim, Commit, Engine, OwnedElsewhere
from stead.storage.entries import ALARM, ATTRIBUTE, PAGE, USER, range_end
from stead.storage.sql import PAGE_BYTES, unpack

LIST_ACTORS_MAX = 1_000  # in one page
CLAIMS_MAX = 3  # of an actor that other nodes want as well
SQL_LOOK_BYTES_MAX = 16 * 1024 * 1024  # a database is copied to be looked into; a larger one is to be exported
_TABLE_NAMES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"


class Operator(Protocol):
    """Looking at actors and removing them. Methods raise `Invalid` for an actor that is not there."""

    async def list_actors(self, unit: str | None, prefix: str, cursor: str, limit: int) -> ActorsPage: ...
    async def show(self, actor: ActorId) -> ActorView: ...
    async def export(self, actor: ActorId, path: Path, progress: Progress) -> None: ...
    async def delete(self, actor: ActorId) -> None: ...
    async def import_sql(self, actor: ActorId, file: Path, overwrite: bool) -> None: ...


def nobody_holds(actor: ActorId) -> bool:
    """Where no node runs, no actor is in memory."""
    return True


Bring = Callable[[ActorId], Awaitable[None]]


class EngineOperator:
    """The operator of an engine. `evict` drops an idle actor from the memory of the node on it, and says if it is gone; `bring` has
    one here that another node has.
    """

    def __init__(
        self, engine: Engine, clock: Clock, evict: Callable[[ActorId], bool] = nobody_holds, bring: Bring = Alone().bring
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._evict = evict
        self._bring = bring

    async def list_actors(self, unit: str | None, prefix: str, cursor: str, limit: int) -> ActorsPage:
        limit = max(1, min(limit, LIST_ACTORS_MAX))
        rows = await self._engine.actors(unit, prefix=prefix, after=cursor, limit=limit)
        return ActorsPage([_line(row) for row in rows], rows[-1].actor.text if len(rows) == limit else None)

    async def show(self, actor: ActorId) -> ActorView:
        row = await find_row(self._engine, actor)
        keys, more_keys = await self._values(actor, USER)
        attributes, more_attributes = await self._values(actor, ATTRIBUTE)
        alarms, more_alarms = await self._values(actor, ALARM)
        sql_bytes, tables = await self._tables(actor)
        more = more_keys or more_attributes or more_alarms
        return ActorView(_line(row), keys, attributes, alarms, tables, sql_bytes, more)

    async def export(self, actor: ActorId, path: Path, progress: Progress) -> None:
        await export_actor(self._engine, actor, path, progress)

    async def delete(self, actor: ActorId) -> None:
        """Erase the actor."""
        await find_row(self._engine, actor)
        await self._replace(actor, {})

    async def import_sql(self, actor: ActorId, file: Path, overwrite: bool) -> None:
        """Make a prepared database all that the actor holds. Raises `Invalid` if it holds anything, unless told to overwrite."""
        entries = await asyncio.to_thread(page_entries, file)
        if not overwrite and await self._engine.scan(actor, b"", None, limit=1):
            raise Invalid(f"{actor} holds data already; --overwrite replaces it, `stead db export` keeps a copy")
        await self._replace(actor, entries)

    async def _replace(self, actor: ActorId, entries: dict[bytes, bytes]) -> None:
        """Make `entries` all that the actor holds, in one commit.

        An instance that comes to memory meanwhile is fenced by the new epoch: it can commit nothing.
        """
        claim = await self._claimed(actor)
        size_bytes = sum(len(key) + len(value) for key, value in entries.items())
        commit = Commit(actor, claim.epoch, claim.seq + 1, entries, {}, size_bytes, self._clock.now_ms(), erase=True)
        (applied,) = await self._engine.commit([commit])
        await self._engine.release(actor, claim.epoch)
        self._evict(actor)
        if not applied:
            raise Unavailable(f"{actor} was taken over meanwhile, and holds what it held; try again")

    async def _claimed(self, actor: ActorId) -> Claim:
        """A claim of an actor that is in no node's memory."""
        for _ in range(CLAIMS_MAX):
            if not self._evict(actor):
                raise Unavailable(f"{actor} is busy; try again when it is idle")
            try:
                return await self._engine.claim(actor)
            except OwnedElsewhere:
                await self._bring(actor)
        raise Unavailable(f"{actor} is wanted by other nodes; try again")

    async def _values(self, actor: ActorId, prefix: bytes) -> tuple[list[ValueLine], bool]:
        rows = await self._engine.scan(actor, prefix, range_end(prefix), limit=SCAN_ROWS + 1)
        return [value_line(key, value) for key, value in rows[:SCAN_ROWS]], len(rows) > SCAN_ROWS

    async def _tables(self, actor: ActorId) -> tuple[int, list[TableLine] | None]:
        image = bytearray()
        async for rows in read_batches(self._engine, actor, PAGE):
            for key, packed in rows:
                offset = page_offset(key)
                image.extend(bytes(max(0, offset + PAGE_BYTES - len(image))))
                image[offset : offset + PAGE_BYTES] = unpack(packed)
            if len(image) > SQL_LOOK_BYTES_MAX:
                return len(image), None
        return len(image), count_rows(bytes(image)) if image else []


def count_rows(image: bytes) -> list[TableLine] | None:
    """The tables of a database file and their sizes; None if it cannot be read."""
    connection = apsw.Connection(":memory:")
    try:
        connection.deserialize("main", image)
        names = [str(row[0]) for row in connection.execute(_TABLE_NAMES)]
        return [TableLine(name, _count(connection, name)) for name in names]
    except apsw.Error:
        return None
    finally:
        connection.close()


def _count(connection: apsw.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return sum(1 for _ in connection.execute(f'SELECT 1 FROM "{quoted}"'))


def _line(row: ActorRow) -> ActorLine:
    actor = row.actor
    return ActorLine(actor.text, actor.unit, actor.name, row.size_bytes, row.seq, row.created_ms, row.active_ms)
