"""`self.sql` in turns: one transaction with the keys, gone and back with them."""

from __future__ import annotations

from typing import Any

import pytest

from stead import Actor, DurabilityLost, Invalid, reads
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
