"""The connections of one node: few, made when needed, and made again when they end.

A statement is prepared once on each connection, under a name that is a digest of its text: behind a pooler that hands server
connections around, a name can then never mean another statement. A pooler that does not know prepared statements answers that it
has none of that name; from then on statements are sent whole each time, which every pooler understands and costs the server
some planning. Nothing else of a session is used: no setting, lock, listener or temporary table.

A connection is replaced after QUERIES_MAX statements, so that no plan outlives what the tables looked like for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, TypeVar

import asyncpg

from stead.storage.postgres.failure import DRIVER_ERRORS, Unreached, is_forgotten

T = TypeVar("T")

CONNECT_S_MAX = 5.0
CLOSE_S_MAX = 1.0
QUERIES_MAX = 10_000


class _Connection:
    """One connection, and what is prepared on it."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.queries = 0
        self._prepared: dict[str, Any] = {}

    async def fetch(self, text: str, args: tuple[object, ...], *, is_named: bool, timeout_s: float) -> list[Any]:
        self.queries += 1
        if not is_named:
            return list(await self.raw.fetch(text, *args, timeout=timeout_s))
        statement = self._prepared.get(text)
        if statement is None:
            name = f"stead_{sha256(text.encode()).hexdigest()[:32]}"
            statement = self._prepared[text] = await self.raw.prepare(text, name=name, timeout=timeout_s)
        return list(await statement.fetch(*args, timeout=timeout_s))


class Connections:
    """At most `size` connections to `dsn`."""

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn = dsn
        self._room = asyncio.Semaphore(size)
        self._idle: list[_Connection] = []
        self._in_use: set[_Connection] = set()
        self._is_named = True  # until a pooler forgets what was prepared
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    async def fetch(self, text: str, *args: object, timeout_s: float) -> list[Any]:
        """The rows of one statement, in a transaction of its own.

        Raises `Unreached` if there is no connection to be had, and what the driver raises for the statement. A connection that
        failed, or whose caller was cancelled, is not used again.
        """
        async with self._room:
            connection = await self._connected()
            self._in_use.add(connection)
            is_sound = False
            try:
                try:
                    rows = await connection.fetch(text, args, is_named=self._is_named, timeout_s=timeout_s)
                except asyncpg.PostgresError as exc:
                    is_sound = not connection.raw.is_closed()
                    if not is_forgotten(exc):
                        raise
                    self._is_named = False  # the statement was not found, so it has not run
                    rows = await connection.fetch(text, args, is_named=False, timeout_s=timeout_s)
                is_sound = True
                return rows
            except asyncpg.InterfaceError as exc:
                if connection.raw.is_closed():  # else the driver complains about what it was given
                    raise ConnectionResetError(str(exc)) from exc
                raise
            finally:
                self._in_use.discard(connection)
                if is_sound and connection.queries < QUERIES_MAX and not self._is_closed:
                    self._idle.append(connection)
                else:
                    connection.raw.terminate()

    async def lend(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` returns for a connection that is its own meanwhile."""
        async with self._room:
            connection = await self._connected()
            try:
                result = await work(connection.raw)
            except BaseException:
                connection.raw.terminate()
                raise
            self._idle.append(connection)
            return result

    async def close(self) -> None:
        """End them; what is under way on one fails."""
        self._is_closed = True
        for connection in self._in_use:
            connection.raw.terminate()
        while self._idle:
            raw = self._idle.pop().raw
            try:
                await raw.close(timeout=CLOSE_S_MAX)
            except DRIVER_ERRORS:
                raw.terminate()  # it ends either way

    async def _connected(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.raw.is_closed():
                return connection
        if self._is_closed:
            raise Unreached("the engine is closed")
        try:
            return _Connection(await asyncpg.connect(self._dsn, statement_cache_size=0, timeout=CONNECT_S_MAX))
        except DRIVER_ERRORS as exc:
            raise Unreached from exc
