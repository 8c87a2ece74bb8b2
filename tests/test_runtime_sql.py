"""`self.sql` in turns: one transaction with the keys, gone and back with them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any

import apsw
import pytest

from stead import Actor, Ambiguous, DurabilityLost, Invalid, SteadError, reads
from stead.clock import sleep
from stead.errors import TransactionLost
from stead.runtime.turn import Turn
from stead.storage.entries import WHOLE_BYTES_MAX
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Ledger(Actor):
    async def add(self, n: int, fail: bool = False, call: bool = False) -> int:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        await self.sql.execute("INSERT INTO t VALUES (?)", n)
        await self.storage.put("last", n)
        if call:
            await self.env.LEDGER.get("other").rows()
            await self.sql.execute("INSERT INTO t VALUES (?)", n + 1)
        if fail:
            raise ValueError("failed")
        return int(str(await self.sql.fetch_value("SELECT count(*) FROM t")))

    @reads
    async def rows(self) -> list[Any]:
        if not await self.sql.fetch_value("SELECT count(*) FROM sqlite_schema"):
            return []
        return [[row["n"] for row in await self.sql.fetch_all("SELECT n FROM t ORDER BY n")], await self.storage.get("last")]

    async def named(self) -> Any:
        return await self.sql.fetch_one("SELECT :a AS a, :b AS b", {"a": 1, "b": "x"})

    @reads
    async def sneak(self) -> None:
        await self.sql.execute("INSERT INTO t VALUES (99)")


async def test_rows_and_keys_commit_and_roll_back_together() -> None:
    """After a failure, a lost commit, an eviction and a crash both say the same."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        ledger = app.env.LEDGER.get("a")
        await ledger.add(1)
        with pytest.raises(ValueError):
            await ledger.add(2, fail=True)
        app.fail_next_commit()
        with pytest.raises(DurabilityLost):
            await ledger.add(3)
        assert await ledger.rows() == [[1], 1]
        await app.evict(ledger)
        assert await ledger.add(4) == 2
        await app.crash()
        assert await ledger.rows() == [[1, 4], 4]


async def test_a_call_in_the_middle_keeps_what_came_before_it() -> None:
    """A later failure rolls SQL back to the call, in the open database too."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        ledger = app.env.LEDGER.get("a")
        with pytest.raises(ValueError):
            await ledger.add(1, fail=True, call=True)
        for _ in range(2):
            assert await ledger.rows() == [[1], 1]
            await app.evict(ledger)


async def test_a_read_cannot_write_rows() -> None:
    """SQL refuses it, and the next writing turn works."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        ledger = app.env.LEDGER.get("a")
        await ledger.add(1)
        with pytest.raises(Invalid):
            await ledger.sneak()
        assert await ledger.add(2) == 2


async def test_parameters_have_names_or_places() -> None:
    """One dict gives those of `:name`."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        assert await app.env.LEDGER.get("a").named() == {"a": 1, "b": "x"}


class Archive(Actor):
    """Larger than what is held in memory, so that statements wait for pages in their middle."""

    async def fill(self, rows: int = 1300) -> int:
        await self.sql.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT, flag INTEGER DEFAULT 0)")
        for n in range(rows):
            await self.sql.execute("INSERT INTO t (n, text) VALUES (?, ?)", n, f"{n:04}" * 1000)
        await self.sql.execute("CREATE INDEX by_flag ON t (flag)")
        return await self.sql.size_bytes()

    @reads
    async def sum(self) -> Any:
        return await self.sql.fetch_one("SELECT count(*) AS count, sum(n) AS sum, sum(length(text)) AS size FROM t")

    @reads
    async def flags(self) -> Any:
        return await self.sql.fetch_value("SELECT count(*) FROM t WHERE flag = 1")

    async def flag(self, every: int, fail: bool = False) -> int:
        changed = await self.sql.execute("UPDATE t SET flag = 1, text = substr(text, 5) || '!' WHERE n % ? = 0", every)
        if fail:
            raise ValueError("failed")
        return changed

    async def shrink(self) -> None:
        await self.sql.execute("DELETE FROM t WHERE n % 2 = 0")

    async def flag_inside(self) -> None:
        async with self.storage.transaction():
            await self.sql.execute("UPDATE t SET flag = 1 WHERE n < 100")
        try:
            async with self.storage.transaction():
                await self.sql.execute("UPDATE t SET flag = 1")
                raise ValueError("failed")
        except ValueError:
            pass

    async def at_once(self) -> list[int]:
        return list(await asyncio.gather(*(self.sql.execute("UPDATE t SET flag = 1 WHERE n = ?", n) for n in range(5))))

    async def beside(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.flag(1))
            await sleep(0)
            async with self.storage.transaction():
                pass

    async def hurry(self, goes_on: bool) -> Any:
        await self.sql.execute("UPDATE t SET flag = 1 WHERE n = 0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await self.sql.execute("UPDATE t SET flag = 1")
        return await self.flags() if goes_on else None

    async def check(self) -> str:
        return str(await self.sql.fetch_value("PRAGMA quick_check"))


def archive(seed: int = 1) -> TestApp:
    return TestApp.of(actors={"archive": Archive}, seed=seed)


EVERYTHING = {"count": 1300, "sum": 1299 * 650, "size": 1300 * 4000}


@pytest.mark.parametrize("seed", range(3))
async def test_a_database_larger_than_memory_on_an_engine_that_waits(seed: int) -> None:
    """Reading all of it, changing all of it and giving half of it back work page by page; the cache stays bounded."""
    async with archive(seed) as app:
        box = app.env.ARCHIVE.get("a")
        assert await box.fill() > 5 * WHOLE_BYTES_MAX
        await app.evict(box)
        assert await box.sum() == EVERYTHING
        assert await box.flag(2) == 650
        await app.evict(box)
        assert await box.flags() == 650
        await box.shrink()
        assert await box.check() == "ok"
        await app.crash()
        assert (await box.sum())["count"] == 650
        assert await box.check() == "ok"


async def test_reads_side_by_side_wait_for_pages_in_turn() -> None:
    """Statements of several reading turns share one database, one statement at a time."""
    async with archive() as app:
        box = app.env.ARCHIVE.get("a")
        await box.fill()
        await app.evict(box)
        assert await asyncio.gather(*(box.sum() for _ in range(4)), box.flags(), box.sum()) == [EVERYTHING] * 4 + [0, EVERYTHING]


async def test_statements_of_one_turn_at_once() -> None:
    """They queue up like those that are awaited one by one, and a transaction() beside a running one is refused."""
    async with archive() as app:
        box = app.env.ARCHIVE.get("a")
        await box.fill()
        await app.evict(box)
        assert await box.at_once() == [1] * 5
        await app.evict(box)
        with pytest.raises(ExceptionGroup, match="unhandled"):
            await box.beside()
        assert await box.flags() == 5


async def test_what_waited_for_pages_rolls_back() -> None:
    """A failure after it, one of a transaction() inside the turn, and a lost commit leave what was there before."""
    async with archive() as app:
        box = app.env.ARCHIVE.get("a")
        await box.fill()
        await app.evict(box)
        with pytest.raises(ValueError):
            await box.flag(1, fail=True)
        assert await box.flags() == 0
        await app.evict(box)
        await box.flag_inside()
        assert await box.flags() == 100
        await app.evict(box)
        app.fail_next_commit()
        with pytest.raises(DurabilityLost):
            await box.flag(1)
        assert await box.flags() == 100
        assert await box.check() == "ok"


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_statement_cancelled_while_it_waits(goes_on: bool) -> None:
    """It may have changed some of its rows, so the turn cannot be committed; the next one finds all as it was."""
    async with archive() as app:
        box = app.env.ARCHIVE.get("a")
        await box.fill()
        await app.evict(box)
        with pytest.raises(TransactionLost):
            await box.hurry(goes_on)
        assert await box.flags() == 0
        assert await box.flag(1300) == 1


@pytest.mark.parametrize("steps", [1, 5, 25, 125])
async def test_an_actor_lost_while_its_statement_waits(steps: int) -> None:
    """A crash in the middle of a statement leaves what was committed; nothing hangs and nothing is left running."""
    async with archive() as app:
        box = app.env.ARCHIVE.get("a")
        await box.fill()
        await app.evict(box)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(outcome(box.flag(1)))
            for _ in range(steps):
                await sleep(0)
            await app.crash()
        assert isinstance(answer.result(), Ambiguous)
        assert await box.flags() == 0
        assert await box.sum() == EVERYTHING


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except SteadError as error:
        return error


@pytest.mark.parametrize("how", ["closes", "crashes"])
async def test_a_node_that_ends_closes_its_databases(how: str) -> None:
    """Else SQLite would keep the actors, and with them the whole node, for as long as the process lives."""
    gc.collect()
    before = len(apsw.connections())
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        opened = len(apsw.connections())
        for name in "abc":
            await app.env.LEDGER.get(name).add(1)
        assert len(apsw.connections()) == opened + 3
        if how == "crashes":
            await app.crash()
            assert len(apsw.connections()) == opened
    assert len(apsw.connections()) == before


async def test_an_open_database_keeps_no_turn() -> None:
    """What an actor was given last and what it wrote go with its turn, though its database stays open."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        left = []
        for number in range(6):
            ledger = app.env.LEDGER.get(f"{number}")
            await ledger.add(1)
            await ledger.rows()
            with pytest.raises(ValueError):
                await ledger.add(2, fail=True)
            gc.collect()
            left.append(sum(isinstance(thing, Turn) for thing in gc.get_objects()))
        assert app.stats()["residents"] == 6
        assert left[1:] == [left[0]] * 5
