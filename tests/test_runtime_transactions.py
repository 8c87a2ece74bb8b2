"""`storage.transaction()` beside other tasks of the same turn: what would mix is refused, and says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from stead import Actor, Invalid, durable
from stead.clock import sleep
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")

BESIDE = "another task has a storage.transaction"


class Vault(Actor):
    count: int = durable(0)

    async def spend(self, key: str, pause_s: float, fail: bool = False) -> None:
        async with self.storage.transaction():
            await self.storage.put(key, 1)
            await sleep(pause_s)
            await self.storage.put(f"{key}!", 1)
            if fail:
                raise KeyError(key)

    async def alarm(self, alarm: Any) -> None:
        pass

    async def beside(self, what: str) -> list[Any]:
        """Do something while another task has a transaction open that rolls back. Return how it ended, and what is stored."""
        doing: dict[str, Callable[[], Awaitable[Any]]] = {
            "transaction": lambda: self.spend("b", 0),
            "put": lambda: self.storage.put("b", 1),
            "get": lambda: self.storage.get("a"),
            "list": lambda: self.storage.list(),
            "delete_all": lambda: self.storage.delete_all(),
            "sync": lambda: self.storage.sync(),
            "sql": lambda: self.sql.execute("CREATE TABLE t (n)"),
            "alarm": lambda: self.storage.set_alarm(10**12 * 2),
            "signal": lambda: self.env.VAULT.get("other").signal("spend", "s", 0),
            "call": lambda: self.env.VAULT.get("other").spend("c", 0),
        }

        async def later() -> None:
            await sleep(1)
            await doing[what]()

        ends = await asyncio.gather(self.spend("a", 2, fail=True), later(), return_exceptions=True)
        return [*(str(end) for end in ends), list(await self.storage.list())]

    async def in_turns(self) -> list[str]:
        """Transactions of tasks that wait for each other, and inside one."""
        await asyncio.gather(self.spend("a", 0.0), sleep(1))
        async with self.storage.transaction():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.spend("b", 1))
            with pytest.raises(KeyError):
                await asyncio.wait_for(self.spend("c", 1, fail=True), 5)
            await self.storage.put("d", 1)
        await self.spend("e", 0)
        return list(await self.storage.list())

    async def leave_with_one_open(self, fail: bool) -> list[Any]:
        """End a transaction in which a task has another one open."""
        ends = []
        inner = None
        try:
            async with self.storage.transaction():
                self.count += 1
                await self.storage.put("outer", 1)
                inner = asyncio.get_running_loop().create_task(self.spend("inner", 2))
                await sleep(1)
                if fail:
                    raise KeyError("outer")
        except (Invalid, KeyError) as error:
            ends.append(str(error))
        await self.storage.put("after", 1)
        assert inner is not None
        ends.append(str((await asyncio.gather(inner, return_exceptions=True))[0]))
        return [*ends, list(await self.storage.list()), self.count]

    async def forget_to_leave(self) -> None:
        await self.storage.transaction().__aenter__()

    async def end_beside(self) -> None:
        async def work() -> None:
            with suppress(Invalid):
                await self.spend("late", 5)

        self.late = asyncio.get_running_loop().create_task(work())
        await sleep(1)

    async def keys(self) -> list[str]:
        return list(await self.storage.list())


def vaults() -> TestApp:
    return TestApp.of(actors={"vault": Vault})


@pytest.mark.parametrize("what", ["transaction", "put", "get", "list", "delete_all", "sync", "sql", "alarm", "signal", "call"])
async def test_what_would_mix_with_an_open_transaction_is_refused(what: str) -> None:
    """It neither joins the transaction of another task nor goes with it when that is rolled back; the turn goes on."""
    async with vaults() as app:
        rolled_back, refused, keys = await app.env.VAULT.get("a").beside(what)
        assert rolled_back == "'a'"
        assert BESIDE in refused and "await that task first" in refused
        assert keys == []
        assert await app.env.VAULT.get("a").keys() == []


async def test_transactions_one_after_the_other_and_inside_each_other() -> None:
    """In whatever tasks they are."""
    async with vaults() as app:
        assert await app.env.VAULT.get("a").in_turns() == ["a", "a!", "b", "b!", "d", "e", "e!"]


@pytest.mark.parametrize("fail", [False, True])
async def test_a_transaction_that_ends_before_one_inside_it_is_rolled_back_with_it(fail: bool) -> None:
    """Also when its block ends without an error; what the inner one still tries is refused."""
    async with vaults() as app:
        vault = app.env.VAULT.get("a")
        outer, inner, keys, count = await vault.leave_with_one_open(fail)
        assert "outer" in outer if fail else BESIDE in outer
        assert "has ended" in inner
        assert (keys, count) == (["after"], 0)
        await app.evict(vault)
        assert await vault.keys() == ["after"]


@pytest.mark.parametrize("how", ["forget_to_leave", "end_beside"])
async def test_a_turn_cannot_end_inside_a_transaction(how: str) -> None:
    """It is rolled back, and the next one begins outside."""
    async with vaults() as app:
        vault = app.env.VAULT.get("a")
        with pytest.raises(Invalid, match="still open"):
            await getattr(vault, how)()
        await vault.spend("a", 0)
        await sleep(10)
        assert await vault.keys() == ["a", "a!"]
