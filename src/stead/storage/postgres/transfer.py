"""A schema to be copied from (`PostgresSource`), and one to be filled (`PostgresTarget`). See `storage/transfer.py`.

**A target is not served before it is complete.** From its opening on, the schema has the version FILLING:
every node that opens an engine on it is refused. Publishing gives it the version that its tables have. What a move left behind that
was interrupted is emptied by the next one. A transaction holds the row of the version all the while, so that there is only one.

**A source must stand still.** It has no live node when it is opened, and `check_unchanged` finds out if one came and committed
since.

Both read by pages of keys, in the order of an index, with statements that stand alone: a pooler may put each on another connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Self

import asyncpg

from stead.clock import Clock
from stead.errors import EngineFailed
from stead.logic.placement import slice_of
from stead.storage.postgres.connections import CONNECT_S_MAX
from stead.storage.postgres.engine import PostgresEngine
from stead.storage.postgres.failure import CONTENT_ERRORS, DRIVER_ERRORS, failure, shown
from stead.storage.postgres.schema import FILLING, PIECE_BYTES, STEPS, check_current, checked_schema, version_of
from stead.storage.transfer import History, Ordered, Part, Totals, in_parts

FLUSH_BYTES = 8 * 1024 * 1024  # of one transaction
FLUSH_ROWS = 20_000
PAGE_ROWS = 2_000  # of actors and alarms
ENTRY_ROWS = 100  # of entries and pieces, which may have PIECE_BYTES each
_TABLES = ("actors", "entries", "pieces", "alarms", "nodes")
_VERSION = "SELECT version FROM {s}.version WHERE id = 1"
_INSERTS = {
    "actors": "(id, number, owner, epoch, seq, folded, last_epoch, size_bytes, created_ms, active_ms) "
    "SELECT id, number, NULL, 0, seq, 0, 0, size_bytes, created_ms, active_ms FROM "
    "unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) "
    "AS w (id, number, seq, size_bytes, created_ms, active_ms)",
    "entries": "(actor, key, pieces, spare, value) "
    "SELECT actor, key, pieces, 0, value FROM unnest($1::bigint[], $2::bytea[], $3::smallint[], $4::bytea[]) "
    "AS w (actor, key, pieces, value)",
    "pieces": "(actor, key, number, value) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::smallint[], $4::bytea[])",
    "alarms": "(actor, name, slice, due_ms) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::smallint[], $4::bigint[])",
}


class _Schema:
    """The tables, over a connection of one's own."""

    def __init__(self, dsn: str, name: str, connection: Any) -> None:
        self.name = checked_schema(name)
        self.where = shown(dsn)
        self.connection = connection

    async def fetch(self, text: str, *args: object) -> list[Any]:
        with _failures(self.where):
            return list(await self.connection.fetch(text.replace("{s}", self.name), *args))

    async def value(self, text: str, *args: object) -> Any:
        return (await self.fetch(text, *args))[0][0]

    async def version(self) -> int:
        """0 where there are no tables."""
        with _failures(self.where):
            return await version_of(self.connection, self.name)

    async def check_unserved(self) -> None:
        names = [
            row[0] for row in await self.fetch("SELECT name FROM {s}.nodes WHERE expires_at > clock_timestamp() ORDER BY name")
        ]
        if names:
            raise EngineFailed(
                f"{self.where} is served by {', '.join(names)}: stop every node first, and wait until its lease is over"
            )

    async def totals(self) -> Totals:
        rows = await self.fetch(
            "SELECT count(*), coalesce(sum(seq), 0)::bigint, coalesce(sum(size_bytes), 0)::bigint FROM {s}.actors WHERE seq > 0"
        )
        return Totals(*rows[0])

    async def parts(self) -> AsyncIterator[Part]:
        async for part in in_parts(self._histories(), Ordered(self._entries(), "entries"), Ordered(self._alarms(), "alarms")):
            yield part

    async def _histories(self) -> AsyncIterator[tuple[int, History]]:
        query = (
            "SELECT number, id, seq, size_bytes, created_ms, active_ms FROM {s}.actors "
            "WHERE number > $1 AND seq > 0 ORDER BY number LIMIT $2"
        )
        async for row in self._pages(query, (-1,), PAGE_ROWS):
            yield row[0], History(*row[1:])

    async def _entries(self) -> AsyncIterator[tuple[Any, ...]]:
        whole = "SELECT actor, key, pieces, value FROM {s}.entries WHERE (actor, key) > ($1, $2) ORDER BY actor, key LIMIT $3"
        beyond = (
            "SELECT actor, key, number, value FROM {s}.pieces WHERE (actor, key, number) > ($1, $2, $3) "
            "ORDER BY actor, key, number LIMIT $4"
        )
        pieces = Ordered(_keyed(self._pages(beyond, (-1, b"", 0), ENTRY_ROWS)), "pieces")
        async for actor, key, count, value in self._pages(whole, (-1, b""), ENTRY_ROWS):
            rest = [piece async for _, piece in pieces.of((actor, key))] if count else []
            if len(rest) != count:
                raise EngineFailed(f"{self.where}: a value has {len(rest)} pieces of {count}: restore a backup of the database")
            yield actor, key, b"".join([value, *rest]) if rest else value
        await pieces.check_over()

    async def _alarms(self) -> AsyncIterator[tuple[Any, ...]]:
        query = "SELECT actor, name, due_ms FROM {s}.alarms WHERE (actor, name) > ($1, $2) ORDER BY actor, name LIMIT $3"
        async for actor, name, due_ms in self._pages(query, (-1, b""), PAGE_ROWS):
            yield actor, name.decode(), due_ms

    async def _pages(self, query: str, after: tuple[object, ...], rows_max: int) -> AsyncIterator[tuple[Any, ...]]:
        """The rows of a query that has the last one's first fields, and a limit, as arguments."""
        while True:
            rows = await self.fetch(query, *after, rows_max)
            for row in rows:
                yield tuple(row)
            if len(rows) < rows_max:
                return
            after = tuple(rows[-1])[: len(after)]

    async def close(self) -> None:
        try:
            await self.connection.close(timeout=CONNECT_S_MAX)
        except DRIVER_ERRORS:
            self.connection.terminate()  # it ends either way


class PostgresSource:
    """A schema that nobody serves. Made by `open`."""

    def __init__(self, schema: _Schema, totals: Totals) -> None:
        self._schema = schema
        self._totals = totals

    @classmethod
    async def open(cls, dsn: str, *, schema: str = "stead") -> Self:
        """Raises `EngineFailed` where there are no tables, they are not current or half filled, or a node is alive."""
        tables = await _connected(dsn, schema)
        try:
            version = await tables.version()
            if version == FILLING:
                raise EngineFailed(
                    f"{tables.where} was being filled when that was interrupted: it is not whole; move that again first"
                )
            check_current(version, schema, tables.where)
            await tables.check_unserved()
            return cls(tables, await tables.totals())
        except BaseException:
            await tables.close()
            raise

    async def totals(self) -> Totals:
        return self._totals

    async def parts(self) -> AsyncIterator[Part]:
        async for part in self._schema.parts():
            yield part

    async def check_unchanged(self) -> None:
        await self._schema.check_unserved()
        if await self._schema.totals() != self._totals:
            raise EngineFailed(f"{self._schema.where} was written to meanwhile: stop every node, and run it again")

    async def close(self) -> None:
        await self._schema.close()


class PostgresTarget:
    """A schema without actors. Made by `open`."""

    def __init__(self, schema: _Schema, guard: _Schema) -> None:
        self._schema = schema
        self._guard = guard  # its transaction holds the row of the version
        self._number = 0  # of the actor that came last
        self._rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in _INSERTS}
        self._bytes = self._count = 0

    @classmethod
    async def open(cls, dsn: str, clock: Clock, *, schema: str = "stead") -> Self:
        """Makes the tables where there are none. Raises `EngineFailed` if there are actors, a live node, or another move here."""
        tables = await _connected(dsn, schema)
        try:
            if await tables.version() != FILLING:
                engine = await PostgresEngine.open(dsn, clock, schema=schema)
                await engine.close()
                await tables.check_unserved()
                if await tables.value("SELECT count(*) FROM (SELECT 1 FROM {s}.actors LIMIT 1) one"):
                    raise EngineFailed(
                        f"{tables.where} has actors already, and nothing is overwritten: give another database, or drop the schema "
                        f"{schema}"
                    )
                await tables.fetch("UPDATE {s}.version SET version = $1 WHERE id = 1", FILLING)
            guard = await _connected(dsn, schema)
        except BaseException:
            await tables.close()
            raise
        target = cls(tables, guard)
        try:
            await target._begin()
        except BaseException:
            await target.close()
            raise
        return target

    async def write(self, part: Part) -> None:
        history, rows = part.history, self._rows
        if part.begins:
            self._number += 1
            rows["actors"].append(
                (history.id, self._number, history.seq, history.size_bytes, history.created_ms, history.active_ms)
            )
        for key, value in part.entries:
            pieces = [value[start : start + PIECE_BYTES] for start in range(0, len(value), PIECE_BYTES)] or [b""]
            rows["entries"].append((self._number, key, len(pieces) - 1, pieces[0]))
            rows["pieces"] += [(self._number, key, number, piece) for number, piece in enumerate(pieces) if number]
        slice_number = slice_of(history.id)
        rows["alarms"] += [(self._number, name.encode(), slice_number, due_ms) for name, due_ms in part.alarms]
        self._bytes += part.size_bytes
        self._count += 1 + len(part.entries) + len(part.alarms)
        if self._bytes >= FLUSH_BYTES or self._count >= FLUSH_ROWS:
            await self._flush()

    async def parts(self) -> AsyncIterator[Part]:
        await self._flush()
        async for part in self._schema.parts():
            yield part

    async def publish(self) -> None:
        await self._flush()
        await self._schema.check_unserved()
        await self._guard.fetch("SELECT setval('{s}.counter', $1)", max(self._number, 1))
        await self._guard.fetch("UPDATE {s}.version SET version = $1 WHERE id = 1", len(STEPS))
        await self._guard.fetch("COMMIT")

    async def close(self) -> None:
        await self._guard.close()
        await self._schema.close()

    async def _begin(self) -> None:
        """Be the only one that fills it, and have it empty."""
        await self._guard.fetch("BEGIN")
        await self._guard.fetch("SET LOCAL idle_in_transaction_session_timeout = 0")  # it waits as long as the move takes
        try:
            rows = await self._guard.connection.fetch(f"{_VERSION.replace('{s}', self._guard.name)} FOR UPDATE NOWAIT")
        except asyncpg.LockNotAvailableError as exc:
            raise EngineFailed(f"{self._guard.where} is being filled by another process: wait for it, or stop it") from exc
        except DRIVER_ERRORS as exc:
            raise failure(exc, self._guard.where) from exc
        if rows[0][0] != FILLING:
            raise EngineFailed(f"{self._guard.where} was filled by another process in this moment: nothing was done")
        await self._schema.fetch(f"TRUNCATE {', '.join('{s}.' + table for table in _TABLES)}")

    async def _flush(self) -> None:
        if not self._count:
            return
        with _failures(self._schema.where):
            async with self._schema.connection.transaction():
                for table, insert in _INSERTS.items():
                    if self._rows[table]:
                        columns = [list(column) for column in zip(*self._rows[table], strict=True)]
                        await self._schema.fetch(f"INSERT INTO {{s}}.{table} {insert}", *columns)
        self._rows = {table: [] for table in _INSERTS}
        self._bytes = self._count = 0


async def _connected(dsn: str, schema: str) -> _Schema:
    where = shown(dsn)
    try:
        connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_S_MAX)
    except DRIVER_ERRORS as exc:
        raise failure(exc, where) from exc
    except ValueError:  # what the driver says of an address may show parts of it
        raise EngineFailed(
            f"{where}: the address cannot be read; write special characters in the password as %40 and the like"
        ) from None
    return _Schema(dsn, schema, connection)


async def _keyed(rows: AsyncIterator[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    async for actor, key, _, value in rows:
        yield (actor, key), value


@contextmanager
def _failures(where: str) -> Iterator[None]:
    try:
        yield
    except (*DRIVER_ERRORS, *CONTENT_ERRORS) as exc:
        raise failure(exc, where) from exc
