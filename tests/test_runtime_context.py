"""`self.ctx`: work outside turns, the way back in, and the way out."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from stead import Aborted, Actor, DurabilityLost, Invalid, Overloaded, TurnTimeout, Unavailable, durable, reads
from stead.clock import sleep
from stead.runtime.context import SPAWNED_MAX
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Worker(Actor):
    """Does in the background what `plan` says, and tells how it ended."""

    ended: ClassVar[list[str]] = []
    gates: ClassVar[dict[str, asyncio.Event]] = {}
    mailbox_events_max = 3
    log: list[str] = durable(factory=list)

    async def start(self, plan: str) -> None:
        self.log.append("start")
        self.ctx.spawn(self.work(plan))

    async def work(self, plan: str) -> None:
        try:
            await getattr(self, f"_{plan}")()
            self.ended.append("ok")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise

    async def _step(self) -> None:
        await sleep(60)
        async with self.ctx.turn():
            self.log.append("step")
            await self.storage.put("step", 1)

    async def _raise(self) -> None:
        async with self.ctx.turn():
            self.log.append("lost")
            await self.storage.put("lost", 1)
            raise ValueError("in the block")

    async def _cancelled(self) -> None:
        async with self.ctx.turn():
            self.log.append("lost")
            await sleep(1)
            raise asyncio.CancelledError

    async def _leave_queue(self) -> None:
        await sleep(1)
        try:
            async with asyncio.timeout(1):
                async with self.ctx.turn():
                    self.log.append("never")
        except TimeoutError:
            pass

    async def _hang(self) -> None:
        async with self.ctx.turn():
            self.log.append("lost")
            await sleep(100)
            self.log.append("no effect")

    async def _again(self) -> None:
        await sleep(10)
        async with self.ctx.turn():
            self.log.append("late")

    async def _nested(self) -> None:
        async with self.ctx.turn():
            await self.turn_inside()

    async def _call(self) -> None:
        async with self.ctx.turn():
            self.log.append("before")
            self.log.append(await self.env.WORKER.get("other").back(self.id.name))

    async def _abort(self) -> None:
        await sleep(1)
        self.ctx.abort("outside")

    async def _wait(self) -> None:
        await sleep(3600)

    async def back(self, name: str) -> str:
        return await self.env.actor(Worker).get(name).inner()

    async def inner(self) -> str:
        self.log.append("inner")
        return "back"

    async def block(self, wait_s: float) -> None:
        await sleep(wait_s)

    async def fail(self) -> None:
        self.log.append("failed")
        raise ValueError("failed")

    async def turn_inside(self) -> None:
        async with self.ctx.turn():
            pass

    async def abort(self, catch: bool) -> str:
        self.log.append("lost")
        await self.storage.put("lost", 1)
        try:
            self.ctx.abort("inside")
        except Aborted:
            if not catch:
                raise
        self.ended.append("code after abort")
        await self.storage.put("after", 1)
        return "never seen"

    async def spawn_many(self, count: int) -> None:
        for _ in range(count):
            self.ctx.spawn(self._wait())

    @reads
    async def seen(self) -> list[str]:
        return self.log


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Worker.ended = []


def workers() -> TestApp:
    return TestApp.of(actors={"worker": Worker})


async def test_spawned_work_keeps_the_actor_and_enters_turns() -> None:
    """It outlives the idle time, and what its block wrote is durable when the block has ended."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("step")
        await app.clock.advance(59)
        assert app.stats()["residents"] == 1
        await app.clock.advance(1.1)
        assert Worker.ended == ["ok"]
        await app.crash()
        assert await worker.seen() == ["start", "step"]


async def test_without_work_the_actor_leaves_again() -> None:
    """After the spawned task has ended the idle time runs."""
    async with workers() as app:
        await app.env.WORKER.get("a").start("step")
        await app.clock.advance(60.1)
        await app.clock.advance(9.8)
        assert app.stats()["residents"] == 1
        await app.clock.advance(0.3)
        assert app.stats()["residents"] == 0


@pytest.mark.parametrize(("plan", "ended"), [("raise", "ValueError"), ("cancelled", "CancelledError"), ("nested", "Invalid")])
async def test_a_block_that_raises_leaves_no_trace(plan: str, ended: str) -> None:
    """Its error is its own, its writes are gone, and the actor goes on."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start(plan)
        await app.clock.advance(5)
        assert Worker.ended == [ended]
        assert await worker.seen() == ["start"]


async def test_leaving_the_queue_before_the_turn_begins() -> None:
    """A block that was given up while it waited never runs, and its place in the mailbox is no turn."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("leave_queue")
        blocked = asyncio.gather(worker.block(5))
        await app.clock.advance(6)
        await blocked
        assert Worker.ended == ["ok"]
        assert await worker.seen() == ["start"]


async def test_a_block_over_the_limit_has_no_effect() -> None:
    """The turn ends at its limit, others go on, and the block learns at its next step into storage or at its end."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("hang")
        await app.clock.advance(31)
        assert await worker.seen() == ["start"]
        await app.clock.advance(100)
        assert Worker.ended == [TurnTimeout.__name__]
        assert await worker.seen() == ["start"]


async def test_a_commit_lost_at_the_end_of_a_block() -> None:
    """The block's end raises `DurabilityLost`, or the work ends with the actor; the writes are gone."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("step")
        await app.clock.advance(59)
        app.fail_next_commit()
        await app.clock.advance(5)
        assert Worker.ended[0] in {DurabilityLost.__name__, "CancelledError"}
        assert await worker.seen() == ["start"]


async def test_a_full_mailbox_refuses_a_block() -> None:
    """`ctx.turn()` raises `Overloaded` like any other sender's event."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("again")
        await app.clock.advance(9)
        blocked = asyncio.gather(*[worker.block(1) for _ in range(4)])
        await app.clock.advance(2)
        await app.clock.advance(10)
        await blocked
        assert Worker.ended == [Overloaded.__name__]


async def test_work_of_a_dropped_instance_cannot_enter() -> None:
    """After a failed turn rebuilt the instance, older work is told so: what it would change in memory would be lost."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("again")
        with pytest.raises(ValueError):
            await worker.fail()
        await app.clock.advance(20)
        assert Worker.ended == [Aborted.__name__]
        assert await worker.seen() == ["start"]


async def test_calls_from_a_block_may_come_back() -> None:
    """A block is a turn: its call commits first, and a callback runs nested in it."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("call")
        await app.clock.advance(1)
        assert await worker.seen() == ["start", "before", "inner", "back"]


async def test_a_turn_inside_a_turn_is_refused() -> None:
    """It would wait for itself."""
    async with workers() as app:
        with pytest.raises(Invalid, match="would wait for itself"):
            await app.env.WORKER.get("a").turn_inside()


@pytest.mark.parametrize("catch", [False, True])
async def test_abort_drops_the_turn(catch: bool) -> None:
    """The caller gets `Aborted` with the reason, even if the code catches it; code after it has no effect."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("wait")
        with pytest.raises(Aborted, match="worker/a was aborted: inside"):
            await worker.abort(catch)
        assert (Worker.ended.count("code after abort") == 1) is catch
        assert await worker.seen() == ["start"]
        assert "CancelledError" in Worker.ended


async def test_abort_outside_a_turn_ends_the_running_one() -> None:
    """Spawned work may reset its actor: the running turn is answered and leaves no trace, waiting events run after it."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        await worker.start("abort")
        replies = asyncio.gather(worker.block(100), worker.seen(), return_exceptions=True)
        await app.clock.advance(2)
        aborted, seen = await replies
        assert isinstance(aborted, Aborted)
        assert seen == ["start"]


async def test_spawned_tasks_are_bounded() -> None:
    """Past the bound `spawn` refuses; the turn fails and the actor goes on."""
    async with workers() as app:
        worker = app.env.WORKER.get("a")
        with pytest.raises(Invalid, match=f"{SPAWNED_MAX} spawned tasks"):
            await worker.spawn_many(SPAWNED_MAX + 1)
        assert await worker.seen() == []


async def test_stopping_ends_work_and_leaks_nothing() -> None:
    """A node that stops rolls running turns back and ends spawned work; who waits is answered."""
    app = workers()
    waiting: Any = None
    async with app:
        worker = app.env.WORKER.get("a")
        await worker.start("wait")
        waiting = asyncio.gather(worker.block(1000), worker.block(1000), worker.seen(), return_exceptions=True)
        await app.clock.advance(1)
    assert [type(reply) for reply in await waiting] == [TurnTimeout, DurabilityLost, Unavailable]
    assert Worker.ended == ["CancelledError"]
