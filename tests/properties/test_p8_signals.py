"""P8: a signal takes effect exactly once, and a repeated call with an idempotency key has one effect."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from stead import Actor, SteadError, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.runtime.outbox import Outbox
from stead.runtime.receipts import Receipts
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.harness import Refused
from tests.properties.misfortunes import CALM_S
from tests.properties.stage import App

OPERATIONS = 20
SETTLED_S = 150.0  # of virtual time: more than the retries of a target that refuses take


class Account(Actor):
    """Money that moves by signals: what left one account and has not reached the other is under way."""

    balance: int = durable(0)
    moves: int = durable(0)

    async def give(self, other: str, amount: int, erase: str = "") -> int:
        if erase == "before":
            await self.erase()
        self.balance -= amount
        self.moves += 1
        await self.env.ACCOUNT.get(other).signal("take", amount)
        if erase == "after":
            await self.erase()
        return self.moves

    async def take(self, amount: int) -> None:
        if self._refuses():
            raise Refused("not in this second")
        self.balance += amount
        if amount % 2 == 0:
            await self.erase()

    def _refuses(self) -> bool:
        return self.env.now().second % 4 == 0

    async def charge(self, amount: int) -> int:
        self.balance -= amount
        return self.balance

    async def erase(self) -> None:
        """Erase all that is the account's own, and write down again what it has."""
        balance, moves = self.balance, self.moves
        await self.storage.delete_all()
        self.balance, self.moves = balance, moves

    async def close(self) -> None:
        await self.storage.delete_all()

    @reads
    async def state(self) -> tuple[int, int]:
        return self.balance, self.moves


NAMES = ("a", "b", "c")
ERASURES = ("", "", "", "before", "after")


async def move_money(seed: int, on: type[App] = TestApp) -> None:
    """Moves between three accounts that erase themselves now and then, while the process dies and disks fail: in the end nothing
    was lost or made, and every move that was acknowledged has happened."""
    chance = Chance(seed)
    acknowledged = dict.fromkeys(NAMES, 0)
    async with on.of(actors={"account": Account}, world=World(commit_s=chance.fraction()), seed=seed) as app:

        async def move() -> None:
            source = NAMES[chance.below(3)]
            try:
                await app.env.ACCOUNT.get(source).give(NAMES[chance.below(3)], chance.below(9) + 1, ERASURES[chance.below(5)])
            except SteadError:
                return
            acknowledged[source] += 1

        async def erase(name: str) -> None:
            try:
                await app.env.ACCOUNT.get(name).erase()
            except SteadError:
                return

        async with asyncio.TaskGroup() as group:
            for _ in range(OPERATIONS):
                match chance.below(7):
                    case 0:
                        await sleep(chance.fraction() * 3)
                    case 1 if chance.below(2):
                        await app.crash()
                    case 2 if chance.below(2):
                        app.fail_next_commit()
                    case 3:
                        await sleep(15)  # out of memory, too
                    case 4:
                        group.create_task(erase(NAMES[chance.below(3)]))
                    case _:
                        group.create_task(move())
        await sleep(SETTLED_S)
        states = {name: await app.env.ACCOUNT.get(name).state() for name in NAMES}
        assert sum(balance for balance, _ in states.values()) == 0, states
        assert all(states[name][1] >= count for name, count in acknowledged.items()), (states, acknowledged)


async def charge(app: App, chance: Chance) -> None:
    """A client that repeats a charge with its key until it is answered, over crashes and though the account erases itself, is
    charged once for each key."""

    async def one(key: str) -> None:
        answers = set()
        for _ in range(2):
            while True:
                try:
                    answers.add(await app.env.ACCOUNT.get("a").with_idempotency_key(key).charge(1))
                    break
                except SteadError:
                    await sleep(chance.fraction())
        assert len(answers) == 1

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(one(f"k{number}"))
        for _ in range(chance.below(4)):
            await sleep(chance.fraction() * 2)
            if chance.below(2):
                await app.crash()
            else:
                with suppress(SteadError):
                    await app.env.ACCOUNT.get("a").erase()
    await sleep(CALM_S)
    assert (await app.env.ACCOUNT.get("a").state())[0] == -5


async def charge_once(seed: int) -> None:
    """Each charge happens once, and in the end nothing of an account that was closed is left."""
    chance = Chance(seed)
    async with TestApp.of(actors={"account": Account}, world=World(commit_s=chance.fraction()), seed=seed) as app:
        await charge(app, chance)
        await app.env.ACCOUNT.get("a").close()
        await app.clock.advance(hours=25)
        assert (await app.env.ACCOUNT.list()).actors == []


@pytest.mark.parametrize("scenario", [move_money, charge_once])
def test_effects_happen_exactly_once(scenario: object) -> None:
    """Over many seeds."""
    check(scenario)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.owner in {Outbox, Receipts}])
def test_planted_bugs_are_found(name: str) -> None:
    """Each bug of P8 makes one of the scenarios fail."""
    with sabotaged(name):
        find(charge_once if name in {"results_not_kept", "results_never_forgotten"} else move_money)
