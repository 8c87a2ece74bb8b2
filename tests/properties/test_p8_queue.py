"""P8: a queue's message is delivered at least once, and a poison message ends among the dead letters."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from stead import Message, Observer, SteadError
from stead.bindings import Binding, Queue, QueueSettings, observer_service, queue_class
from stead.bindings.queue import QueueShard
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import BINDING_SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.stage import App

SETTLED_S = 120.0  # of virtual time, for every retry
RETRIES = 2


class Worker(Observer):
    """Takes its time and fails now and then; poison always."""

    chance: ClassVar[Chance] = Chance(0)
    done: ClassVar[set[int]] = set()

    async def process(self, message: Message) -> None:
        await sleep(self.chance.fraction() * 0.2)
        if message.body["poison"] or (message.attempts == 1 and self.chance.below(4) == 0):
            raise ValueError("fails")
        self.done.add(message.body["number"])


def jobs() -> Binding:
    settings = QueueSettings(
        name="jobs", consumer="worker.observer", max_batch_size=3, max_batch_timeout_s=0.5, max_retries=RETRIES
    )
    return Binding(queue_class(settings), Queue, {"worker.observer": observer_service(Worker, "jobs")})


async def work_through(seed: int, on: type[App] = TestApp) -> None:
    """Messages sent while processes die and disks fail: in the end each acknowledged one was processed, or is a dead letter if it
    is poison; none is left over, and no letter is there twice."""
    chance = Worker.chance = Chance(seed)
    Worker.done = set()
    sent: set[int] = set()
    poison: set[int] = set()
    async with on.of(bindings={"jobs": jobs()}, world=World(commit_s=chance.fraction() / 4), seed=seed) as app:

        async def send(numbers: list[int]) -> None:
            bad = {number for number in numbers if number % 7 == 3}
            try:
                await app.env.JOBS.send_batch([{"number": number, "poison": number in bad} for number in numbers])
            except SteadError:
                return
            sent.update(numbers)
            poison.update(bad)

        async with asyncio.TaskGroup() as group:
            for step in range(10):
                match chance.below(6):
                    case 0 if chance.below(2):
                        await app.crash()
                    case 1 if chance.below(2):
                        app.fail_next_commit()
                    case 2:
                        await sleep(chance.fraction() * 3)
                    case _:
                        group.create_task(send([10 * step + number for number in range(chance.below(5))]))
        await sleep(SETTLED_S)
        status = await app.env.JOBS.status()
        letters = [letter.value()["number"] for letter in await app.env.JOBS.peek(1000, dead=True)]
        assert status.messages == 0, status
        assert sent - poison <= Worker.done, sorted(sent - poison - Worker.done)
        assert poison <= set(letters), (poison, letters)
        assert len(letters) == len(set(letters)), letters


def test_nothing_is_lost_and_poison_is_kept() -> None:
    """Over many seeds."""
    check(work_through)


@pytest.mark.parametrize("name", [name for name, plant in BINDING_SABOTAGES.items() if plant.owner is QueueShard])
def test_planted_bugs_are_found(name: str) -> None:
    """Each bug of queues makes the scenario fail."""
    with sabotaged(BINDING_SABOTAGES[name]):
        find(work_through)
