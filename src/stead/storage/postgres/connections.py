"""The connections of one node: few, made when needed, and made again when they end.

A statement is prepared once on each connection, under a name that is a digest of its text: behind a pooler that hands server
connections around, a name can then never mean another statement. A pooler that does not know prepared statements answers that it
has none of that name; from then on statements are sent whole each time, which every pooler understands and costs the server
some planning. Nothing else of a session is used: no setting, lock, listener or temporary table.

A server keeps the plan of a prepared statement, and a plan for a table of ten rows walks it whole. So a statement is prepared anew
when twice as many have run since it was, and after a while in any case: other nodes let tables grow as well.

Who waits for a connection is let in by `Rank`: the lease first, commits and all else in turns. So a thousand actors that are
claimed at once keep neither a commit waiting nor the lease, nor do commits keep out claims; and the last connection is the
lease's alone, so that no lock which all else waits for costs a node its actors.

**Only servers that take writes.** An address may name several, of which a standby answers while the primary does not: what it would
show is out of date. So each new connection is asked whether it may write, unless reading is all that it is for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from hashlib import sha256
from typing import Any, TypeVar

import asyncpg

from stead.clock import Clock
from stead.storage.postgres.failure import DRIVER_ERRORS, Unreached, is_forgotten

T = TypeVar("T")

CONNECT_S_MAX = 5.0
CLOSE_S_MAX = 1.0
PLAN_S_MAX = 30.0  # of a prepared statement's life
PLAN_QUERIES_MIN = 64  # before it may be prepared anew


class Rank(Enum):
    """What a connection is wanted for."""

    LEASE = "lease"  # what keeps this node alive
    COMMIT = "commit"  # what others wait for
    QUESTION = "question"


class _Room:
    """How many connections are free, and who waits for one: the lease first, commits and questions in turns."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._kept = min(size - 1, 1)  # free ones that are the lease's alone
        self._waiting: dict[Rank, deque[asyncio.Future[None]]] = {rank: deque() for rank in Rank}
        self._turn = Rank.COMMIT  # whose it is where both wait

    @asynccontextmanager
    async def place(self, rank: Rank) -> AsyncIterator[None]:
        """Have one connection for the time of the block."""
        entry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[rank].append(entry)
        self._let_in()
        try:
            await entry
            yield
        finally:
            if entry.done() and not entry.cancelled():
                self._free += 1
            self._let_in()

    def _let_in(self) -> None:
        while (rank := self._next()) is not None:
            entry = self._waiting[rank].popleft()
            if not entry.done():  # else who waited has gone
                entry.set_result(None)
                self._free -= 1
                if rank is not Rank.LEASE:
                    self._turn = Rank.QUESTION if rank is Rank.COMMIT else Rank.COMMIT

    def _next(self) -> Rank | None:
        if self._free and self._waiting[Rank.LEASE]:
            return Rank.LEASE
        if self._free > self._kept:
            after = Rank.QUESTION if self._turn is Rank.COMMIT else Rank.COMMIT
            return next((rank for rank in (self._turn, after) if self._waiting[rank]), None)
        return None


class _Prepared:
    """A statement that the server knows by name, until its plan may be out of date."""

    def __init__(self, statement: Any, queries: int, now_s: float) -> None:
        self.statement = statement
        self._queries_max = 2 * queries + PLAN_QUERIES_MIN
        self._until_s = now_s + PLAN_S_MAX

    def is_fresh(self, queries: int, now_s: float) -> bool:
        return queries < self._queries_max and now_s < self._until_s


class _Connection:
    """One connection, and what is prepared on it."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self._prepared: dict[str, _Prepared] = {}

    async def prepared(self, text: str, queries: int, now_s: float, timeout_s: float) -> Any:
        """The statement of that text, when `queries` have run so far."""
        known = self._prepared.get(text)
        if known is None or not known.is_fresh(queries, now_s):
            name = f"stead_{sha256(text.encode()).hexdigest()[:32]}_{queries}"  # the one before is still there
            statement = await self.raw.prepare(text, name=name, timeout=timeout_s)
            known = self._prepared[text] = _Prepared(statement, queries, now_s)
        return known.statement


class Connections:
    """At most `size` connections to `dsn`; with `reads_only` a server that takes no writes will do."""

    def __init__(self, dsn: str, size: int, clock: Clock, *, reads_only: bool = False) -> None:
        self._dsn = dsn
        self._reads_only = reads_only
        self._clock = clock
        self._queries = 0
        self._room = _Room(size)
        self._idle: list[_Connection] = []
        self._in_use: dict[_Connection, float] = {}  # since when
        self._is_named = True  # until a pooler forgets what was prepared
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    async def fetch(self, text: str, *args: object, timeout_s: float, rank: Rank = Rank.QUESTION) -> list[Any]:
        """The rows of one statement, in a transaction of its own.

        Raises `Unreached` if there is no connection to be had, and what the driver raises for the statement. A connection that
        failed, or whose caller was cancelled, is not used again.
        """
        async with self._room.place(rank):
            connection = await self._connected()
            began_s = self._in_use[connection] = self._clock.elapsed_s()
            is_sound = False
            try:
                try:
                    rows = await self._run(connection, text, args, timeout_s)
                except asyncpg.PostgresError as exc:
                    is_sound = exc.severity_en == "ERROR"  # FATAL: the server ends the connection, if we have not seen it yet
                    if not is_forgotten(exc):
                        raise
                    self._is_named = False  # the statement was not found, so it has not run
                    rows = await self._run(connection, text, args, timeout_s)
                is_sound = True
                return rows
            except TimeoutError:
                self._end_silent(began_s, rank)
                raise
            except asyncpg.InterfaceError as exc:
                if connection.raw.is_closed():  # else the driver complains about what it was given
                    raise ConnectionResetError(str(exc)) from exc
                raise
            finally:
                del self._in_use[connection]
                if is_sound and not self._is_closed:
                    self._idle.append(connection)
                else:
                    connection.raw.terminate()

    async def lend(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` returns for a connection that is its own meanwhile."""
        async with self._room.place(Rank.QUESTION):
            connection = await self._connected()
            try:
                result = await work(connection.raw)
            except BaseException:
                connection.raw.terminate()
                raise
            if self._is_closed:
                connection.raw.terminate()
            else:
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

    def _end_silent(self, since_s: float, rank: Rank) -> None:
        """Where one way has been silent since then, the others have, for all that is known.

        What waits on them is sent again. Only the lease asks so little that silence is no work.
        """
        while self._idle:
            self._idle.pop().raw.terminate()
        if rank is Rank.LEASE:
            for connection, began_s in self._in_use.items():
                if began_s <= since_s:
                    connection.raw.terminate()

    async def _run(self, connection: _Connection, text: str, args: tuple[object, ...], timeout_s: float) -> list[Any]:
        self._queries += 1
        if self._is_named:
            statement = await connection.prepared(text, self._queries, self._clock.elapsed_s(), timeout_s)
            return list(await statement.fetch(*args, timeout=timeout_s))
        return list(await connection.raw.fetch(text, *args, timeout=timeout_s))

    async def _connected(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.raw.is_closed():
                return connection
        if self._is_closed:
            raise Unreached("the engine is closed")
        try:
            raw = await asyncpg.connect(self._dsn, statement_cache_size=0, timeout=CONNECT_S_MAX)
            try:
                if not self._reads_only and await raw.fetchval("SHOW transaction_read_only", timeout=CONNECT_S_MAX) == "on":
                    raise asyncpg.ReadOnlySQLTransactionError("transaction_read_only is on")
            except BaseException:
                raw.terminate()
                raise
            return _Connection(raw)
        except DRIVER_ERRORS as exc:
            raise Unreached from exc
