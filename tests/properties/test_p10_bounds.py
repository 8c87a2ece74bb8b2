"""P10: everything is bounded; past a bound there is a clear error, and everyone else goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stead import Actor, DurabilityLost, Invalid, Overloaded, durable
from stead.clock import sleep
from stead.codec import VALUE_BYTES_MAX
from stead.ids import Chance
from stead.runtime.context import SPAWNED_MAX
from stead.storage.contract import KEY_BYTES_MAX
from stead.testing import SABOTAGES, TestApp, check, find, sabotaged
from tests.properties.harness import Started, beset_by, failing, holding, together

FLOOD, WAITING_MAX = 120, 16
BYTES_HEADER = 5  # what encoding adds to that many bytes
DISK_FULL_TIMES = 3
SIZE_SEEDS = 20  # each writes megabytes, and the sizes around a bound are few


class Busy(Actor):
    """Slow, with a small mailbox."""

    mailbox_events_max = WAITING_MAX
    count: int = durable(0)
    value: bytes = durable(b"")

    async def work(self, pause_s: float) -> int:
        self.count += 1
        await sleep(pause_s)
        return self.count

    async def put(self, key: str, value: bytes) -> None:
        await self.storage.put("before", 1)
        await self.storage.put(key, value)

    async def assign(self, value: bytes) -> None:
        self.value = value

    async def arm(self, name: str, payload: bytes) -> None:
        await self.alarms.set(name, 4_000_000_000_000, payload=payload)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            self.ctx.spawn(sleep(1.0))

    async def keys(self) -> list[str]:
        return [*await self.storage.list(), *(alarm.name for alarm in await self.alarms.list()), *(["value"] if self.value else [])]

    async def alarm(self, alarm: Any) -> None:
        raise AssertionError("due in the next century")


async def flood(seed: int) -> None:
    """More calls than one actor takes, while others are at work."""
    chance = Chance(seed)
    async with TestApp.of(actors={"busy": Busy}) as app:
        flooded, done, refused = app.env.BUSY.get("flooded"), [0], [0]

        async def call(started: Any) -> None:
            try:
                await started
            except Overloaded as exc:
                assert exc.retry_after_s > 0
                assert "busy/flooded" in str(exc)
                refused[0] += 1
            else:
                done[0] += 1

        async def others() -> None:
            for number in range(5):
                began_s = app.clock.elapsed_s()
                assert await app.env.BUSY.get(f"{number}").work(0.01) == 1
                assert app.clock.elapsed_s() - began_s < 1, "another actor had to wait for the flooded one"

        async with beset_by(*([holding(app, chance, 1)] if seed % 2 else [])):
            calls = [Started(flooded.work(1.0)) for _ in range(FLOOD)]
            if seed % 2 == 0:
                await asyncio.wait_for(others(), 10)
            await together(*(call(started) for started in calls))
        assert done[0] + refused[0] == FLOOD
        assert done[0] == WAITING_MAX + 1, f"{done[0]} of {FLOOD} events were taken by a mailbox of {WAITING_MAX}"
        assert await flooded.work(0.0) == done[0] + 1, "what was refused ran all the same"


async def sizes(seed: int) -> None:
    """Keys, values, attributes, payloads and names on either side of their bound."""
    chance = Chance(seed)
    async with TestApp.of(actors={"busy": Busy}) as app:
        actor = app.env.BUSY.get("a")
        big = b"x" * (VALUE_BYTES_MAX - BYTES_HEADER + 1 + chance.below(4))
        long = "k" * (KEY_BYTES_MAX + chance.below(4))
        for method, *arguments in (("put", "v", big), ("put", long, b""), ("assign", big), ("arm", "a", big), ("arm", long, b"")):
            try:
                await getattr(actor, method)(*arguments)
            except Invalid as exc:
                assert any(mark in str(exc) for mark in ("limit", "may have")), f"unclear: {exc}"
            else:
                raise AssertionError(f"{method} let something over its limit pass")
            assert await actor.keys() == [], "a refused value left a trace"
        await actor.put("k" * (KEY_BYTES_MAX - 1), b"x" * (VALUE_BYTES_MAX - BYTES_HEADER))
        assert len(await actor.keys()) == 2


async def spawned(seed: int) -> None:
    """More spawned work than an actor may have."""
    async with TestApp.of(actors={"busy": Busy}) as app:
        actor = app.env.BUSY.get("a")
        with pytest.raises(Invalid, match="spawned"):
            await actor.spawn(SPAWNED_MAX + 1)
        await app.clock.advance(2)
        await actor.spawn(1)
        assert await app.env.BUSY.get("b").work(0.0) == 1


async def full_disk(seed: int) -> None:
    """A disk that is full now and then stops nobody for longer than it is full."""
    chance = Chance(seed)
    async with TestApp.of(actors={"busy": Busy}) as app:
        acknowledged = [0, 0]

        async def client(number: int) -> None:
            for _ in range(6):
                await sleep(0.1 * chance.fraction())
                try:
                    acknowledged[number] = await app.env.BUSY.get(f"{number}").work(0.0)
                except Exception as exc:  # noqa: BLE001 - anything but the one clear error is a failure
                    assert "disk is full" in str(exc), repr(exc)

        async with beset_by(failing(app, chance, DISK_FULL_TIMES)):
            await together(client(0), client(1))
        for number in range(2):
            assert await until_there_is_space(app.env.BUSY.get(f"{number}")) == acknowledged[number] + 1


async def until_there_is_space(actor: Any) -> int:
    for _ in range(DISK_FULL_TIMES):
        try:
            return int(await actor.work(0.0))
        except DurabilityLost:  # of the times that the disk was to be full some are left
            continue
    return int(await actor.work(0.0))


def test_a_flooded_actor_refuses_and_others_go_on() -> None:
    """A mailbox takes what it holds; the rest is refused with a time to come back, runs nowhere and disturbs nobody."""
    check(flood)


def test_sizes_are_bounded() -> None:
    """What is over a limit is refused with the limit in the message, and leaves no trace; what is at the limit passes."""
    check(sizes, SIZE_SEEDS)


def test_spawned_work_is_bounded() -> None:
    """An actor has so many tasks beside its turns and no more."""
    check(spawned, 5)


def test_a_full_disk_passes() -> None:
    """A failed commit is one clear error for those it touched; nothing that was acknowledged is lost, and the next commit works."""
    check(full_disk)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P10"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the properties fail."""
    with sabotaged(name):
        find(sizes if name == "sizes_unchecked" else flood)
