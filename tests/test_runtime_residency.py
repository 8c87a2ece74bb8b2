"""Which actors stay in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stead import Actor, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.runtime import Limits, Runtime
from stead.storage.memory import MemoryEngine
from stead.testing import TestApp, current_clock, run

pytestmark = pytest.mark.usefixtures("clock")


class Short(Actor):
    hibernate_after_s = 2.0
    count: int = durable(0)

    def __init__(self) -> None:
        self.seen = 0

    async def add(self, wait_s: float = 0.0) -> int:
        self.seen += 1
        self.count += 1
        await sleep(wait_s)
        return self.seen

    @reads
    async def get(self) -> list[int]:
        return [self.seen, self.count]

    async def hold(self, size_bytes: int) -> None:
        await self.storage.put("x", b"x" * size_bytes)


class Long(Short):
    hibernate_after_s = 60.0


def actors() -> TestApp:
    return TestApp.of(actors={"short": Short, "long": Long})


async def test_an_actor_leaves_exactly_after_its_idle_time() -> None:
    """Not before, whatever the last event was, and each class by its own time; what was durable comes back."""
    async with actors() as app:
        short, long = app.env.SHORT.get("a"), app.env.LONG.get("a")
        await short.add()
        await long.add()
        await app.clock.advance(1.9)
        assert await short.get() == [1, 1]
        await app.clock.advance(1.999)
        assert app.stats()["residents"] == 2
        await app.clock.advance(0.002)
        assert app.stats()["residents"] == 1
        assert await short.get() == [0, 1]
        await app.clock.advance(56)
        assert await long.get() == [1, 1]
        await app.clock.advance(60.01)
        assert app.stats() == {**app.stats(), "residents": 0, "resident_bytes": 0}


async def test_a_busy_actor_stays() -> None:
    """Neither a long turn nor a commit under way lets it go."""
    async with actors() as app:
        short = app.env.SHORT.get("a")
        slow = asyncio.gather(short.add(20))
        await app.clock.advance(19)
        assert app.stats()["residents"] == 1
        with app.hold_commits() as held:
            await app.clock.advance(30)
            assert app.stats()["residents"] == 1 and held.waiting == 1
        assert (await slow)[0] == 1
        await app.clock.advance(2.1)
        assert app.stats()["residents"] == 0


async def test_past_the_memory_bound_the_longest_idle_leave() -> None:
    """The bound holds for what idle actors weigh; who was used last stays."""
    clock = current_clock()
    node = Runtime(
        actors={"long": Long},
        services={},
        clients={},
        engine=MemoryEngine(),
        clock=clock,
        chance=Chance(1),
        variables={},
        service_variables={},
        limits=Limits(resident_bytes_max=500_000, stop_grace_s=30.0),
    )
    await node.start()
    long = node.env.LONG
    for number in range(10):
        await long.get(f"a{number}").hold(90_000)
        await long.get("a0").add()
    await clock.advance(0.1)
    assert node.stats()["resident_bytes"] <= 500_000
    assert node.stats()["residents"] == 5
    assert await long.get("a0").get() == [10, 10]
    assert (await long.get("a1").get())[0] == 0
    await node.close()


@pytest.mark.parametrize("seed", range(20))
def test_evictions_between_any_two_turns_are_invisible(seed: int) -> None:
    """Durable state is the same whether an actor stayed or left and came back, in any schedule."""

    async def main() -> None:
        async with actors() as app:
            short = app.env.SHORT.get("a")
            chance = Chance(seed)
            for expected in range(1, 15):
                adding: Any = asyncio.gather(short.add(chance.fraction() * 3), short.get())
                if chance.below(2):
                    await app.clock.advance(chance.fraction() * 4)
                await adding
                if chance.below(2):
                    await app.evict(short)
                assert (await short.get())[1] == expected

    run(main, seed=seed)
