"""P8: a request with an idempotency key has one effect and one answer, however often it comes and whatever dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stead import Actor, Ambiguous, Request, Service, durable, reads, route
from stead.clock import sleep
from stead.ids import Chance
from stead.runtime.answers import Answer
from stead.runtime.derived import DerivedKeys
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.stage import App

REQUESTS = 4
ACCOUNTS = ("a", "b")


class Account(Actor):
    balance: int = durable(0)
    notes: int = durable(0)

    async def take(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    async def note(self) -> None:
        self.notes += 1

    @reads
    async def state(self) -> tuple[int, int]:
        return self.balance, self.notes


class Shop(Service):
    """Answers with a number that no other run of its code has: a second run shows."""

    def __init__(self) -> None:
        self._runs = 0

    @route("POST", "/pay/{amount:int}", idempotent=True)
    async def pay(self, request: Request, amount: int) -> dict[str, Any]:
        self._runs += 1
        first, second = (self.env.ACCOUNT.get(name) for name in ACCOUNTS)
        await first.state()
        await asyncio.gather(second.take(-amount), first.take(amount))
        await sleep(amount / 10)
        await first.take(amount)
        await second.signal("note")
        await self.env.BOOK.write(amount)
        return {"run": self._runs, "at": self.env.now().isoformat()}


class Book(Service):
    """A service between: its calls are the handler's."""

    async def write(self, amount: int) -> None:
        await self.env.ACCOUNT.get("book").take(amount)


async def pay_once(seed: int, on: type[App] = TestApp) -> None:
    """Clients that repeat themselves, several at a time, over crashes and failing disks: each payment happens once, and all who got
    an answer got the same one."""
    chance = Chance(seed)
    services = {"shop": Shop, "book": Book}
    world = World(commit_s=chance.fraction() / 2)
    async with on.of(actors={"account": Account}, services=services, world=world, seed=seed) as app:

        async def ask(number: int) -> str:
            while True:
                try:
                    answer = await app.client.post(
                        f"http://shop.localhost/pay/{number + 1}", headers={"idempotency-key": f"key-{number}"}
                    )
                except Ambiguous:
                    continue
                if answer.status_code == 200:
                    return answer.text
                assert answer.status_code >= 500, answer.text
                await sleep(chance.fraction())

        async def pay(number: int) -> None:
            await sleep(chance.fraction() * 2)
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(number)) for _ in range(2)]
            answers = {task.result() for task in asked} | {await ask(number)}
            assert len(answers) == 1, answers

        async with asyncio.TaskGroup() as group:
            for number in range(REQUESTS):
                group.create_task(pay(number))
            for _ in range(chance.below(4)):
                await sleep(chance.fraction() * 2)
                if chance.below(3):
                    await app.crash()
                else:
                    app.fail_next_commit()
        await sleep(60)
        total = sum(range(1, REQUESTS + 1))
        states = [await app.env.ACCOUNT.get(name).state() for name in (*ACCOUNTS, "book")]
        assert states == [(2 * total, 0), (-total, REQUESTS), (total, 0)], states


def test_a_request_has_one_effect_and_one_answer() -> None:
    """Over many seeds."""
    check(pay_once)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.owner in {Answer, DerivedKeys}])
def test_planted_bugs_are_found(name: str) -> None:
    """Each bug of answers makes the scenario fail."""
    with sabotaged(name):
        find(pay_once)
