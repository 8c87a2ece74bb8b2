"""P7: hibernation and eviction are invisible but for latency."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from stead import Actor, AlarmInfo, Env, SteadError, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.harness import Refused, Started, beset_by, evicting

OPERATIONS = 16
ENDLESS_S = 60.0  # of virtual time, where a few seconds are usual
NAMES = ("p", "q")


class Shelf(Actor):
    """State of every kind."""

    total: int = durable(0)
    items: list[str] = durable(factory=list)
    nested: dict[str, Any] = durable(factory=lambda: {"deep": []})
    tags: set[str] = durable(factory=set)

    async def on_start(self) -> None:
        self.starts = await self.storage.get("anything", 0)

    async def put(self, key: str, value: int) -> dict[str, Any]:
        self.total += value
        self.items.append(key)
        await self.storage.put(key, [value, {key}])
        return await self.storage.list()

    async def change(self, key: str, value: int) -> Any:
        """Change a list inside a dict, and nothing else."""
        self.nested["deep"].append(key)
        self.tags ^= {key}
        return [self.nested, self.tags]

    async def remove(self, key: str, value: int) -> bool:
        return await self.storage.delete(key)

    async def insert(self, key: str, value: int) -> list[Any]:
        await self.sql.execute("create table if not exists t(k text, v integer)")
        await self.sql.execute("insert into t values (?, ?)", key, value)
        return await self.sql.fetch_all("select * from t order by rowid")

    async def alarm_in(self, key: str, value: int) -> int:
        await self.alarms.set(key, 4_000_000_000_000 + value)
        return len(await self.alarms.list())

    async def clear(self, key: str, value: int) -> None:
        if value % 3 == 0:
            await self.storage.delete_all()

    async def fail(self, key: str, value: int) -> None:
        self.items.append("failed")
        await self.storage.put("failed", value)
        raise Refused(key)

    async def tell(self, key: str, value: int) -> Any:
        """Call the other shelf in the middle, which calls back."""
        self.total += 1
        other = "q" if self.id.name == "p" else "p"
        answer = await self.env.SHELF.get(other).answer(key, self.id.name)
        self.items.append(f"told {key}")
        return answer

    async def answer(self, key: str, whom: str) -> Any:
        self.items.append(f"answered {key}")
        return await self.env.SHELF.get(whom).back(key)

    async def back(self, key: str) -> int:
        self.total += 10
        return self.total

    @reads
    async def look(self, key: str, value: int) -> Any:
        return [self.total, self.items, self.nested, self.tags, await self.storage.list()]

    async def alarm(self, alarm: AlarmInfo) -> None:
        raise AssertionError("due in the next century")


METHODS = ("put", "put", "change", "remove", "insert", "alarm_in", "clear", "fail", "tell", "look")


async def answered(call: Any) -> Any:
    try:
        return await call
    except Refused as exc:
        return f"refused {exc}"
    except SteadError as exc:  # what nobody is told who is not disturbed
        return repr(exc)


async def replies(env: Env, chance: Chance) -> list[Any]:
    """What a client is told, who sends up to three operations at a time."""
    shelves = [env.SHELF.get(name) for name in NAMES]
    told: list[Any] = []
    pending: list[Any] = []
    shelf = shelves[0]
    for number in range(OPERATIONS):
        method, key, value = METHODS[chance.below(len(METHODS))], "abc"[chance.below(3)], number
        if method == "tell" or chance.below(3) == 0:  # its effect on the other shelf needs an order
            told += [await answered(call) for call in pending]
            pending = []
            shelf = shelves[chance.below(2)]
        pending.append(Started(getattr(shelf, method)(key, value)))
        if method == "tell":
            told.append(await answered(pending.pop()))
        await sleep(0.2 * chance.fraction())
    return told + [await answered(call) for call in pending]


async def undisturbed(seed: int) -> list[Any]:
    """What the client is told while everything stays in memory."""
    async with TestApp.of(actors={"shelf": Shelf}, world=World(commit_s=0.1)) as app:
        return await replies(app.env, Chance(seed))


async def evicted(seed: int) -> list[Any]:
    """What it is told while actors are evicted between any two turns."""
    eviction = Chance(~seed)
    async with TestApp.of(actors={"shelf": Shelf}, world=World(commit_s=0.1)) as app:
        shelves = [app.env.SHELF.get(name) for name in NAMES]
        async with beset_by(evicting(app, eviction, *shelves), sweeping(app)):
            return await replies(app.env, Chance(seed))


async def sweeping(app: TestApp) -> None:
    """Ask for the eviction of everything, again and again, without waiting for it to be idle."""
    while True:
        await sleep(0.02)
        for name in NAMES:
            app._process.node.evict(app.env.SHELF.id_from_name(name))


async def scenario(seed: int) -> None:
    """The same workload twice: with everything in memory, and with evictions between any two turns."""
    await compare(await undisturbed(seed), evicted(seed))


async def compare(expected: list[Any], disturbed: Coroutine[Any, Any, list[Any]]) -> None:
    """Whatever went on meanwhile, a client was told the same."""
    try:
        async with asyncio.timeout(ENDLESS_S):
            told = await disturbed
    except TimeoutError:
        raise AssertionError("disturbed it never ends") from None
    assert told == expected


async def hibernation(seed: int) -> None:
    """An actor hibernates after its idle time, and not before; the next event finds all of it."""
    chance = Chance(seed)
    async with TestApp.of(actors={"shelf": Shelf}) as app:
        shelf = app.env.SHELF.get("p")
        await shelf.put("a", 1)
        await app.clock.advance(Shelf.hibernate_after_s * (0.1 + 0.8 * chance.fraction()))
        assert app.stats()["residents"] == 1
        before = await shelf.look("", 0)
        await app.clock.advance(Shelf.hibernate_after_s + 0.01)
        assert app.stats()["residents"] == 0
        assert app.stats()["resident_bytes"] == 0
        assert await shelf.look("", 0) == before


def test_eviction_changes_no_reply() -> None:
    """With and without evictions between any two turns, a client is told the same."""
    check(scenario)


def test_an_idle_actor_leaves_and_comes_back() -> None:
    """Memory is given back after the idle time, and nothing is missing after it."""
    check(hibernation)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P7"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
