"""`storage.delete_all()` erases what is the user's, and leaves what the actor owes others: signals under way, and receipts."""

from __future__ import annotations

import asyncio

import pytest

from stead import Actor, durable
from stead.clock import sleep
from stead.runtime.receipts import FORGET_PAUSE_MS, FORGOTTEN_MAX
from stead.testing import TestApp, check

seeded = pytest.mark.usefixtures("clock")

LARGE_PARTS = 12  # values of 100 kB: more than is held whole
RUNS: list[int] = []


class Till(Actor):
    """Adds up what it is told, tells others, and erases itself."""

    total: int = durable(0)
    closed: bool = durable(False)

    async def add(self, amount: int, erase: bool = False) -> int:
        if self.closed:
            raise ValueError("closed")
        RUNS.append(amount)
        self.total += amount
        if erase:
            await self.storage.delete_all()
        return self.total

    async def close(self, closed: bool) -> None:
        self.closed = closed

    async def grow(self) -> None:
        await self.storage.put_many({f"part{number}": b"x" * 100_000 for number in range(LARGE_PARTS)})

    async def tell(self, other: str, *amounts: int) -> None:
        for amount in amounts:
            await self.env.TILL.get(other).signal("add", amount)

    async def tell_and_erase(self, other: str, *amounts: int, sync: bool) -> None:
        await self.tell(other, *amounts)
        if sync:
            await self.storage.sync()
        await self.storage.delete_all()

    async def erase(self) -> None:
        await self.storage.delete_all()

    async def erase_beside_a_call_to_itself(self) -> None:
        again = self.env.TILL.get(self.id).with_idempotency_key("k")
        await asyncio.gather(self.storage.delete_all(), again.add(1))

    async def keys(self) -> list[str]:
        return list(await self.storage.list())


def tills() -> TestApp:
    RUNS.clear()
    return TestApp.of(actors={"till": Till})


async def names(app: TestApp) -> list[str | None]:
    return [entry.name for entry in (await app.env.TILL.list()).actors]


@seeded
@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("how", ["in a later turn", "in the same turn", "after sync()"])
async def test_signals_on_their_way_outlive_the_erasing(how: str, size: str) -> None:
    """They arrive after a crash, once and in order, and then nothing of the sender is left; its own keys are gone at once."""
    async with tills() as app:
        sender, target = app.env.TILL.get("s"), app.env.TILL.get("t")
        if size == "large":
            await sender.grow()
        await target.close(True)
        if how == "in a later turn":
            await sender.tell("t", 1, 2)
            await sender.erase()
        else:
            await sender.tell("t", 1)
            await sender.tell_and_erase("t", 2, sync=how == "after sync()")
        assert await sender.keys() == []
        await app.crash()
        await target.close(False)
        await sleep(60)
        assert sorted(RUNS) == [1, 2]
        assert await names(app) == ["t"]


@seeded
async def test_signals_that_are_dead_go_with_the_rest() -> None:
    """Nobody waits for what is tried no more."""
    async with tills() as app:
        sender, target = app.env.TILL.get("s"), app.env.TILL.get("t")
        await target.close(True)
        await sender.tell("t", 1)
        await sleep(600)
        assert await names(app) == ["s", "t"]
        await sender.erase()
        assert await names(app) == ["t"]


def test_who_erases_itself_knows_the_signals_that_it_had() -> None:
    """A signal that comes again, since its sender heard nothing, does not run again; what is settled leaves nothing behind."""

    async def scenario(seed: int) -> None:
        async with tills() as app:
            await app.env.TILL.get("s").tell("t", 1)
            await sleep(seed / 40)
            await app.env.TILL.get("t").erase()
            await app.crash()
            await app.env.TILL.get("s").tell("t", 2)
            await sleep(30)
            assert RUNS == [1, 2]
            await app.env.TILL.get("t").erase()
            assert await names(app) == []

    check(scenario, 60)


@seeded
@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_repeat_gets_the_first_result_though_the_actor_was_erased(size: str) -> None:
    """By the turn itself or by a later one, and across a crash, for 24 hours. Then, and not before, the actor is listed no more."""
    async with tills() as app:
        till = app.env.TILL.get("a")
        if size == "large":
            await till.grow()
        await till.add(2)
        assert await till.with_idempotency_key("k").add(5, erase=True) == 0
        await till.add(1)
        assert await till.with_idempotency_key("l").add(5) == 6
        await till.erase()
        await app.crash()
        for key, result in (("k", 0), ("l", 6)):
            assert await till.with_idempotency_key(key).add(5) == result
        assert RUNS == [2, 5, 1, 5]
        await app.clock.advance(hours=23)
        assert await names(app) == ["a"]
        await app.clock.advance(hours=1, seconds=FORGET_PAUSE_MS / 1000 + 1)
        assert await names(app) == []


@seeded
async def test_results_that_are_over_go_though_nobody_comes() -> None:
    """However many there are, and with those that came later when they are over."""
    async with tills() as app:
        till = app.env.TILL.get("a")
        for number in range(FORGOTTEN_MAX * 2 + 5):
            await till.with_idempotency_key(f"k{number}").add(0)
        await app.clock.advance(hours=12)
        await till.with_idempotency_key("late").add(7)
        await app.clock.advance(hours=12, seconds=FORGET_PAUSE_MS / 1000 + 1)
        runs = len(RUNS)
        await till.with_idempotency_key("late").add(7)
        assert len(RUNS) == runs
        [entry] = (await app.env.TILL.list()).actors
        assert entry.size_bytes < 100
        await app.clock.advance(hours=12)
        await till.erase()
        assert await names(app) == []


def test_what_comes_back_while_a_turn_erases_is_remembered() -> None:
    """A call with a key that commits inside a turn which erases a large actor, at whatever moment, is not run twice."""

    async def scenario(seed: int) -> None:
        async with tills() as app:
            till = app.env.TILL.get("a")
            await till.grow()
            await till.erase_beside_a_call_to_itself()
            await app.crash()
            await till.with_idempotency_key("k").add(1)
            assert RUNS == [1]
            assert await till.keys() == []

    check(scenario, 60)
