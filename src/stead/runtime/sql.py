"""`self.sql`: an actor's SQLite database, whose transaction is the turn and whose pages are entries of the actor.

The database opens at the first statement and stays open while the actor is in memory. Turns that only read share one read-only
transaction, which the next writing turn ends.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from stead.api import SqlValue
from stead.clock import Clock
from stead.errors import EngineFailed
from stead.runtime.turn import Turn
from stead.storage.entries import PAGE, PAGE_COUNT, Entries
from stead.storage.sql import SqlDatabase, pack, unpack

T = TypeVar("T")


class Host(Protocol):
    """What SQL asks of its actor."""

    @property
    def entries(self) -> Entries: ...
    def ready(self, what: str, *, writes: bool = False) -> Turn | None: ...
    async def readable(self, what: str) -> Turn: ...


class ActorSql:
    """The implementation of `stead.Sql`, and its part of a turn's beginning and end."""

    __slots__ = ("_database", "_host", "_now_ms", "_pages")

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._pages = ActorPages(host)
        self._now_ms = clock.now_ms
        self._database: SqlDatabase | None = None

    async def execute(self, query: str, *params: object) -> int:
        turn = self._host.ready("sql.execute()") or await self._host.readable("sql.execute()")
        return self._begun(turn).execute(query, params)

    async def fetch_all(self, query: str, *params: object) -> list[dict[str, SqlValue]]:
        turn = self._host.ready("sql.fetch_all()") or await self._host.readable("sql.fetch_all()")
        return self._begun(turn).fetch_all(query, params)

    async def fetch_one(self, query: str, *params: object) -> dict[str, SqlValue] | None:
        turn = self._host.ready("sql.fetch_one()") or await self._host.readable("sql.fetch_one()")
        return self._begun(turn).fetch_one(query, params)

    async def fetch_value(self, query: str, *params: object) -> SqlValue:
        turn = self._host.ready("sql.fetch_value()") or await self._host.readable("sql.fetch_value()")
        return self._begun(turn).fetch_value(query, params)

    async def script(self, text: str) -> None:
        self._begun(await self._host.readable("sql.script()")).script(text)

    async def size_bytes(self) -> int:
        return self._begun(await self._host.readable("sql.size_bytes()")).size_bytes()

    @property
    def memory_bytes(self) -> int:
        return 0 if self._database is None else self._database.memory_bytes

    def commit(self, turn: Turn) -> None:
        """Hand the pages that the turn changed to its layer."""
        if turn.sql_begun and self._database is not None:
            self._pages.turn = turn
            self._database.commit()
            turn.sql_begun, turn.sql_sealed = False, True

    def roll_back(self, turn: Turn) -> None:
        """Forget what the turn did."""
        if turn.sql_sealed:  # its pages are in a layer that is dropped now: the open database is ahead of them
            self.close()
        elif turn.sql_begun and self._database is not None:
            self._database.rollback()
        turn.sql_begun = turn.sql_sealed = False

    def begin_inner(self, turn: Turn) -> None:
        if turn.sql_begun and self._database is not None:
            self._database.savepoint()

    def end_inner(self, turn: Turn, *, keep: bool) -> None:
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
        if self._database is not None:
            self._database.close()
            self._database = None

    def _begun(self, turn: Turn) -> SqlDatabase:
        """The database, in a transaction that is the turn's."""
        database = self._database
        if database is None:
            database = self._database = SqlDatabase(self._pages, self._now_ms)
        if turn.reads:
            database.begin(read_only=True)
        elif not turn.sql_begun:
            database.rollback()  # ends what reading turns began
            database.begin(read_only=False)
            turn.sql_begun = True
            for _ in turn.layers[1:]:
                database.savepoint()
        self._pages.turn = turn
        return database


class ActorPages:
    """The database's pages as entries, read and written as the turn that uses the database sees them."""

    __slots__ = ("_host", "turn")

    def __init__(self, host: Host) -> None:
        self._host = host
        self.turn: Turn | None = None

    def count(self) -> int:
        data = self._read(PAGE_COUNT)
        return 0 if data is None else int.from_bytes(data, "big")

    def read(self, number: int) -> bytes:
        data = self._read(_page_key(number))
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
        entries, layers = self._host.entries, () if self.turn is None else self.turn.layers
        return entries.known(key, layers) if entries.knows(key, layers) else answer_now(entries.get(key, layers))

    def _writes(self) -> dict[bytes, bytes | None]:
        assert self.turn is not None, "no turn is being sealed"
        return self.turn.layer.writes


def answer_now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend: SQLite asks for a page in the middle of a statement and cannot wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise EngineFailed("this engine cannot answer at once, which an actor's SQL needs")


def _page_key(number: int) -> bytes:
    return PAGE + number.to_bytes(4, "big")
