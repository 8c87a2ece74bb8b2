"""`self.sql`: an actor's SQLite database, whose transaction is the turn and whose pages are entries of the actor.

The database opens at the first statement and stays open while the actor is in memory. Turns that only read share one read-only
transaction, which the next writing turn ends.

A small actor is held whole, and its statements are plain calls. A larger one's pages may have to be fetched in the middle of
a statement, so its statements run in a fiber (`fiber.py`), one at a time. An engine that answers at once is never waited for there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar
from weakref import ReferenceType, ref

from stead.api import SqlValue
from stead.clock import Clock
from stead.errors import EngineFailed, Invalid, TransactionLost
from stead.runtime import fiber
from stead.runtime.turn import Turn
from stead.storage.entries import PAGE, PAGE_COUNT, Entries, Layer
from stead.storage.sql import SqlDatabase, pack, unpack

AHEAD_MAX: Final = 32  # pages read together, half of what an actor's cache of entries holds

T = TypeVar("T")


class Host(Protocol):
    """What SQL asks of its actor."""

    @property
    def entries(self) -> Entries: ...
    def ready(self, what: str, *, writes: bool = False) -> Turn | None: ...
    async def readable(self, what: str) -> Turn: ...


class ActorSql:
    """The implementation of `stead.Sql`, and its part of a turn's beginning and end."""

    __slots__ = ("_busy", "_database", "_host", "_idle", "_now_ms", "_pages")

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._pages = ActorPages(host)
        self._now_ms = clock.now_ms
        self._database: SqlDatabase | None = None
        self._busy = False  # a statement runs in a fiber: it may be waiting for a page
        self._idle: asyncio.Future[None] | None = None  # set while somebody waits for it

    async def execute(self, query: str, *params: object) -> int:
        turn = self._host.ready("sql.execute()") or await self._host.readable("sql.execute()")
        if self._host.entries.whole:
            return self._begun(turn).execute(query, params)
        return await self._patiently(turn, "sql.execute()", lambda database: database.execute(query, params))

    async def fetch_all(self, query: str, *params: object) -> list[dict[str, SqlValue]]:
        turn = self._host.ready("sql.fetch_all()") or await self._host.readable("sql.fetch_all()")
        if self._host.entries.whole:
            return self._begun(turn).fetch_all(query, params)
        return await self._patiently(turn, "sql.fetch_all()", lambda database: database.fetch_all(query, params))

    async def fetch_one(self, query: str, *params: object) -> dict[str, SqlValue] | None:
        turn = self._host.ready("sql.fetch_one()") or await self._host.readable("sql.fetch_one()")
        if self._host.entries.whole:
            return self._begun(turn).fetch_one(query, params)
        return await self._patiently(turn, "sql.fetch_one()", lambda database: database.fetch_one(query, params))

    async def fetch_value(self, query: str, *params: object) -> SqlValue:
        turn = self._host.ready("sql.fetch_value()") or await self._host.readable("sql.fetch_value()")
        if self._host.entries.whole:
            return self._begun(turn).fetch_value(query, params)
        return await self._patiently(turn, "sql.fetch_value()", lambda database: database.fetch_value(query, params))

    async def script(self, text: str) -> None:
        turn = await self._host.readable("sql.script()")
        if self._host.entries.whole:
            self._begun(turn).script(text)
        else:
            await self._patiently(turn, "sql.script()", lambda database: database.script(text))

    async def size_bytes(self) -> int:
        turn = await self._host.readable("sql.size_bytes()")
        if self._host.entries.whole:
            return self._begun(turn).size_bytes()
        return await self._patiently(turn, "sql.size_bytes()", lambda database: database.size_bytes())

    @property
    def memory_bytes(self) -> int:
        return 0 if self._database is None or self._busy else self._database.memory_bytes

    @property
    def may_wait(self) -> bool:
        """Whether a commit may have to wait for pages, or for a statement that does."""
        return self._busy or not self._host.entries.whole

    def commit(self, turn: Turn) -> None:
        """Hand the pages that the turn changed to its layer. Nothing waits (`may_wait`)."""
        if turn.sql_begun and self._database is not None:
            self._pages.lend_to(turn)
            self._database.commit()
            turn.sql_begun, turn.sql_sealed = False, True

    async def commit_patiently(self, turn: Turn) -> None:
        """`commit`, though it may have to wait; other tasks of the turn go on meanwhile, and may begin anew."""
        await self._wait_idle()
        if self._database is None:
            turn.sql_begun = False
        elif turn.sql_begun:
            await self._in_fiber(lambda: self.commit(turn))

    def roll_back(self, turn: Turn) -> None:
        """Forget what the turn did."""
        if turn.sql_sealed or (turn.sql_begun and self._busy):
            self.close()  # the database is ahead of its pages: they are in a layer that is dropped now, or a statement still runs
        elif turn.sql_begun and self._database is not None:
            self._database.rollback()
        turn.sql_begun = turn.sql_sealed = False

    def begin_inner(self, turn: Turn) -> None:
        self._check_idle("opening a storage.transaction()")
        if turn.sql_begun and self._database is not None:
            self._database.savepoint()

    def end_inner(self, turn: Turn, *, keep: bool) -> None:
        self._check_idle("leaving a storage.transaction()")
        if not turn.sql_begun or self._database is None:
            return
        if keep:
            self._database.release()
        else:
            self._database.rollback_to()

    def erase(self, turn: Turn) -> None:
        """The turn erases the actor: go on with an empty database."""
        self.close()
        turn.sql_begun, turn.sql_sealed = False, True

    def close(self) -> None:
        """Forget the open transaction. A statement that waits for a page ends first, and hears that its database is gone."""
        database, self._database = self._database, None
        if database is not None and not self._busy:
            database.close()

    def _check_idle(self, what: str) -> None:
        if self._busy:
            raise Invalid(f"{what} beside an SQL statement of the same turn: await the statement first")

    async def _patiently(self, turn: Turn, what: str, work: Callable[[SqlDatabase], T]) -> T:
        """What `work` returns of the database, though it may have to wait for pages. Statements of reads side by side queue up."""
        while self._busy:
            await self._wait_idle()
            turn.check(what)
        return await self._in_fiber(lambda: work(self._begun(turn)))

    async def _in_fiber(self, work: Callable[[], T]) -> T:
        if self._database is None:
            self._database = SqlDatabase(self._pages, self._now_ms)
        database = self._database
        self._busy = True
        try:
            result = await fiber.run(work)
            if database is not self._database:
                raise TransactionLost("the actor's database was given up while the statement ran: the turn has to fail")
            return result
        finally:
            self._busy = False
            idle, self._idle = self._idle, None
            if idle is not None:
                idle.set_result(None)
            if database is not self._database:
                database.close()

    async def _wait_idle(self) -> None:
        while self._busy:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _begun(self, turn: Turn) -> SqlDatabase:
        """The database, in a transaction that is the turn's."""
        database = self._database
        if database is None:
            database = self._database = SqlDatabase(self._pages, self._now_ms)
        self._pages.lend_to(turn)
        if turn.reads:
            database.begin(read_only=True)
        elif not turn.sql_begun:
            database.rollback()  # ends what reading turns began
            database.begin(read_only=False)
            turn.sql_begun = True
            for _ in turn.layers[1:]:
                database.savepoint()
        return database


class ActorPages:
    """The database's pages as entries, read and written as the turn that uses the database sees them."""

    __slots__ = ("_ahead", "_host", "_next", "_turn", "_waits")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._turn: ReferenceType[Turn] | None = None  # the database stays open behind a turn, which must not stay with it
        self._waits = False  # whether a page had to be waited for
        self._next = 0  # the page that would follow those that were read together last ...
        self._ahead = 1  # ... and how many those were

    def lend_to(self, turn: Turn) -> None:
        """Show the pages as this turn sees them, and write into its layer."""
        self._turn = ref(turn)

    def count(self) -> int:
        data = self._read(PAGE_COUNT)
        return 0 if data is None else int.from_bytes(data, "big")

    def read(self, number: int) -> bytes:
        data = self._read_ahead(number) if self._waits else self._read(_page_key(number))
        if data is None:
            raise EngineFailed(
                f"page {number} of the actor's SQL database is missing; restore the actor from a backup or an export"
            )
        return unpack(data)

    def write(self, number: int, data: bytes) -> None:
        writes = self._writes()
        writes[_page_key(number)] = pack(data)
        if number >= self.count():
            writes[PAGE_COUNT] = (number + 1).to_bytes(4, "big")

    def truncate(self, count: int) -> None:
        writes = self._writes()
        for number in range(count, self.count()):
            writes[_page_key(number)] = None
        writes[PAGE_COUNT] = count.to_bytes(4, "big")

    def _read(self, key: bytes) -> bytes | None:
        entries, layers = self._host.entries, self._layers()
        return entries.known(key, layers) if entries.knows(key, layers) else self._answer(entries.get(key, layers))

    def _read_ahead(self, number: int) -> bytes | None:
        """A page, and those behind it as well where pages are asked for in order: the more, the longer that lasts."""
        entries, layers, key = self._host.entries, self._layers(), _page_key(number)
        if entries.knows(key, layers):
            return entries.known(key, layers)
        self._ahead = min(2 * self._ahead, AHEAD_MAX) if number == self._next else 1
        self._next = number + self._ahead
        keys = [_page_key(page) for page in range(number, self._next)]
        return self._answer(entries.get_many(keys, layers)).get(key)

    def _layers(self) -> Sequence[Layer]:
        turn = self._turn and self._turn()
        return turn.layers if turn else ()

    def _answer(self, work: Coroutine[Any, Any, T]) -> T:
        value, waited = fiber.answer(work)
        self._waits = self._waits or waited
        return value

    def _writes(self) -> dict[bytes, bytes | None]:
        turn = self._turn and self._turn()
        assert turn, "no turn is being sealed"
        return turn.layer.writes


def _page_key(number: int) -> bytes:
    return PAGE + number.to_bytes(4, "big")
