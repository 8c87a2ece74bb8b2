"""Turns of one actor: serial, in order, transactional, limited in time, and reads beside each other."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, ClassVar

import pytest

from stead import Aborted, Actor, DurabilityLost, Invalid, Overloaded, TurnTimeout, durable, reads
from stead.clock import sleep
from stead.runtime.deadlines import QUEUE_TURNS_MIN
from stead.runtime.turn import Turn
from stead.testing import TestApp, run
from tests.garbage import garbage

pytestmark = pytest.mark.usefixtures("clock")


class Log(Actor):
    """Tells what ran beside what, through a list that all instances share."""

    told: ClassVar[list[str]] = []
    mailbox_events_max = 20
    lines: list[str] = durable(factory=list)
    count: int = durable(0)

    async def write(self, name: str, wait_s: float = 0.1) -> None:
        self.told.append(f"+{name}")
        await sleep(wait_s)
        self.lines.append(name)
        self.told.append(f"-{name}")

    @reads
    async def read(self, name: str, wait_s: float = 0.1) -> list[str]:
        self.told.append(f"+{name}")
        await sleep(wait_s)
        self.told.append(f"-{name}")
        return self.lines

    async def increment(self) -> int:
        """A lost update if turns overlapped."""
        count = self.count
        stored = await self.storage.get("count", 0)
        await sleep(0.01)
        self.count = count + 1
        await self.storage.put("count", stored + 1)
        return self.count

    async def fail(self, wait_s: float = 0.0) -> None:
        self.lines.append("failed")
        await self.storage.put("failed", True)
        await self.sql.execute("CREATE TABLE IF NOT EXISTS failed (n)")
        await self.alarms.set("failed", 10**12)
        await sleep(wait_s)
        raise ValueError("failed")

    async def alarm(self, alarm: Any) -> None:
        pass

    async def seen(self) -> list[object]:
        tables = await self.sql.fetch_value("SELECT count(*) FROM sqlite_schema")
        return [self.lines, await self.storage.list(), await self.alarms.list(), tables]

    @reads
    async def sneak(self, how: str) -> None:
        match how:
            case "assign":
                self.count = 5
            case "append":
                self.lines.append("x")
            case "put":
                await self.storage.put("x", 1)
            case "delete_all":
                await self.storage.delete_all()
            case "alarm":
                await self.alarms.cancel("x")
            case "sql":
                await self.sql.execute("CREATE TABLE t (n)")
            case "transaction":
                async with self.storage.transaction():
                    pass

    async def hang(self, swallow: int = 0) -> None:
        """Ignores its cancellation `swallow` times, and writes after each."""
        self.lines.append("hang")
        for _ in range(swallow):
            try:
                await sleep(1000)
            except asyncio.CancelledError:
                self.lines.append("swallowed")
                self.told.append("swallowed")
                try:
                    await self.storage.put("late", 1)
                except TurnTimeout:
                    self.told.append("refused")
        await sleep(1000)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Log.told = []


def log_app() -> TestApp:
    return TestApp.of(actors={"log": Log})


@pytest.mark.parametrize("seed", range(20))
def test_turns_are_serial_and_in_the_order_they_were_sent(seed: int) -> None:
    """Nothing runs beside a writing turn, and events run in the order they were sent, whatever the schedule."""
    Log.told = []

    async def main() -> None:
        sent: list[str] = []

        async def send(log: Any, name: str) -> None:
            sent.append(name)
            await log.write(name, 0.0)

        async with log_app() as app:
            log = app.env.LOG.get("a")
            await asyncio.gather(*[send(log, f"n{number}") for number in range(12)])
            assert await log.read("r", 0.0) == sent
        assert Log.told[:24] == [f"{sign}{name}" for name in sent for sign in "+-"]

    run(main, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_no_update_is_lost(seed: int) -> None:
    """Reading, waiting and writing is safe in a turn: fifty increments count to fifty."""

    async def main() -> None:
        async with log_app() as app:
            log = app.env.LOG.get("a")
            results = []
            for _ in range(5):
                results += await asyncio.gather(*[log.increment() for _ in range(10)])
            assert sorted(results) == list(range(1, 51))

    run(main, seed=seed)


async def test_reads_run_beside_each_other_and_never_beside_a_write() -> None:
    """Two reads overlap; a write waits for both; the reads behind it wait for the write: none starves."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("first", 0.0)
        Log.told.clear()
        calls = [log.read("r1"), log.read("r2", 0.2), log.write("w"), log.read("r3"), log.read("r4")]
        replies = await asyncio.gather(*calls)
    assert set(Log.told[:2]) == {"+r1", "+r2"}
    assert Log.told[2:6] == ["-r1", "-r2", "+w", "-w"]
    assert set(Log.told[6:8]) == {"+r3", "+r4"}
    assert replies[0] == ["first"] and replies[3] == ["first", "w"]


@pytest.mark.parametrize("how", ["assign", "append", "put", "delete_all", "alarm", "sql", "transaction"])
async def test_a_read_cannot_write(how: str) -> None:
    """Whatever way it tries, a `@reads` method that writes is refused and leaves no trace, in memory either."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("kept", 0.0)
        slow = asyncio.gather(log.read("beside", 1.0))
        with pytest.raises(Exception, match="read"):
            await log.sneak(how)
        assert list(await slow) == [["kept"]]
        assert await log.seen() == [["kept"], {}, [], 0]


async def test_a_raising_event_leaves_no_trace() -> None:
    """Keys, attributes, alarms and SQL of a turn that raises are as before, at once and after a crash."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("kept", 0.0)
        with pytest.raises(ValueError, match="failed") as caught:
            await log.fail()
        assert "in a turn of log/a: what it wrote was rolled back" in caught.value.__notes__
        assert await log.seen() == [["kept"], {}, [], 0]
        await app.crash()
        assert await log.seen() == [["kept"], {}, [], 0]


@pytest.mark.parametrize("swallow", [0, 1, 3])
async def test_a_turn_over_its_limit_is_rolled_back(swallow: int) -> None:
    """The caller learns at the limit, the next event runs at once, and code that ignores its cancellation has no effect."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("kept", 0.0)
        waiting = asyncio.gather(log.hang(swallow), log.read("after", 0.0), return_exceptions=True)
        await app.clock.advance(29.9)
        assert not waiting.done()
        await app.clock.advance(0.2)
        timed_out, after = await waiting
        assert isinstance(timed_out, TurnTimeout) and "limit of 30 s" in str(timed_out)
        assert after == ["kept"]
        await app.clock.advance(5000)
        assert await log.seen() == [["kept"], {}, [], 0]
        assert Log.told.count("refused") == min(swallow, 1)


async def test_a_read_over_its_limit_does_not_disturb_its_neighbours() -> None:
    """Other reads that run beside it answer, and events that follow see the same state."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("kept", 0.0)
        late = asyncio.gather(log.read("late", 1000), return_exceptions=True)
        await app.clock.advance(20)
        beside = asyncio.gather(log.read("beside", 25.0), log.write("next"), log.read("last"))
        await app.clock.advance(60)
        assert isinstance((await late)[0], TurnTimeout)
        assert list(await beside) == [["kept"], None, ["kept", "next"]]


async def test_a_caller_that_goes_away_does_not_tear_the_turn() -> None:
    """A cancelled caller leaves its turn running to the end: all of it is written."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        caller = asyncio.gather(log.write("whole", 5.0))
        await app.clock.advance(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await app.clock.advance(10)
        assert await log.read("r", 0.0) == ["whole"]


async def test_a_full_mailbox_refuses_and_the_rest_goes_on() -> None:
    """Past the bound the error says when to try again, nothing ran, and what was accepted runs in order."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        replies = await asyncio.gather(*[log.write(str(n), 0.01) for n in range(30)], return_exceptions=True)
        refused = [reply for reply in replies if reply is not None]
        assert 8 <= len(refused) <= 10
        assert all(isinstance(error, Overloaded) and error.retry_after_s > 0 for error in refused)
        assert await log.read("r", 0.0) == [str(n) for n in range(30 - len(refused))]


async def test_storage_outside_a_turn_raises() -> None:
    """Code that outlives its turn is told where it went wrong; so is code that never was in one."""

    class Late(Actor):
        caught: ClassVar[list[str]] = []

        async def start(self) -> None:
            self.task = asyncio.gather(self.later())

        async def later(self) -> None:
            await sleep(1)
            try:
                await self.storage.put("x", 1)
            except Invalid as error:
                self.caught.append(str(error))

        async def spawn(self) -> None:
            self.ctx.spawn(self.later())

    async with TestApp.of(actors={"late": Late}) as app:
        late = app.env.LATE.get("a")
        await late.start()
        await late.spawn()
        await app.clock.advance(2)
        assert len(Late.caught) == 2
        assert sorted("ctx.spawn()" in text or "ctx.turn()" in text for text in Late.caught) == [True, True]


class Starting(Actor):
    """Its `on_start` does what the key says."""

    mode: ClassVar[str] = ""
    runs: ClassVar[int] = 0
    starts: int = durable(0)

    async def on_start(self) -> None:
        type(self).runs += 1
        self.starts += 1
        await self.storage.put("started", True)
        if self.mode == "fail":
            raise ValueError("cannot start")
        if self.mode == "hang":
            await sleep(1000)
        if self.mode == "swallow":
            try:
                await sleep(1000)
            except asyncio.CancelledError:
                await sleep(1)

    @reads
    async def seen(self) -> list[object]:
        return [self.starts, await self.storage.get("started")]

    async def boom(self) -> None:
        await self.storage.put("x", 1)
        raise ValueError("boom")


def starting_app(mode: str) -> TestApp:
    Starting.mode, Starting.runs = mode, 0
    return TestApp.of(actors={"starting": Starting})


async def test_on_start_runs_once_before_the_first_event() -> None:
    """Reads that come first and together wait for one `on_start`, which may write; a rebuilt instance starts again."""
    async with starting_app("") as app:
        actor = app.env.STARTING.get("a")
        assert list(await asyncio.gather(actor.seen(), actor.seen(), actor.seen())) == [[1, True]] * 3
        with pytest.raises(ValueError):
            await actor.boom()
        assert await actor.seen() == [2, True]


async def test_a_failing_on_start_fails_the_event_and_leaves_no_trace() -> None:
    """The event gets the error, the next one tries again, and nothing of the failed start is kept."""
    async with starting_app("fail") as app:
        actor = app.env.STARTING.get("a")
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot start"):
                await actor.seen()
        assert Starting.runs == 2
        Starting.mode = ""
        assert await actor.seen() == [1, True]


@pytest.mark.parametrize("mode", ["hang", "swallow"])
async def test_a_hanging_on_start_times_out(mode: str) -> None:
    """The time limit holds for `on_start` too, even one that ignores its end; the next event has an instance of its own."""
    async with starting_app(mode) as app:
        actor = app.env.STARTING.get("a")
        first = asyncio.gather(actor.seen(), return_exceptions=True)
        await app.clock.advance(30)
        assert isinstance((await first)[0], TurnTimeout)
        Starting.mode = ""

        async def slow_neighbour() -> object:
            return await actor.seen()

        second = asyncio.gather(slow_neighbour())
        await app.clock.advance(5)
        assert (await second)[0] == [1, True]
        assert await actor.seen() == [1, True]
        assert Starting.runs == 2


async def test_a_lost_commit_undoes_all_that_saw_it() -> None:
    """The writer, the turns after it and the reads that saw it get `DurabilityLost`; the actor goes on from what is durable."""
    async with log_app() as app:
        log = app.env.LOG.get("a")
        await log.write("kept", 0.0)
        with app.hold_commits() as held:
            app.fail_next_commit()
            calls = [log.write("lost", 0.0), log.read("r", 0.0), log.write("also", 0.0), log.read("slow", 5.0)]
            replies = asyncio.gather(*calls, return_exceptions=True)
            await held.wait()
            await app.clock.advance(1)
            assert not replies.done()
        for reply in await replies:
            assert isinstance(reply, DurabilityLost)
        assert await log.seen() == [["kept"], {}, [], 0]
        await log.write("next", 0.0)
        await app.crash()
        assert await log.read("r", 0.0) == ["kept", "next"]


@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_breaks_an_actor_that_is_reset_at_random(seed: int) -> None:
    """Aborts and lost commits between reads and writes: each event sees a started instance and is answered; the sum is right."""

    class Shaky(Actor):
        ready = False
        total: int = durable(0)

        async def on_start(self) -> None:
            assert not self.ready
            await sleep(0.01)
            self.ready = True

        async def add(self) -> int:
            assert self.ready
            self.total += 1
            await sleep(0.01)
            return self.total

        @reads
        async def get(self) -> int:
            await sleep(0.01)
            assert self.ready
            return self.total

        async def restart(self) -> None:
            self.ctx.spawn(self._restart())

        async def _restart(self) -> None:
            self.ctx.abort("again")

    async def main() -> None:
        async with TestApp.of(actors={"shaky": Shaky}) as app:
            actor = app.env.SHAKY.get("a")
            for turn in range(12):
                if turn % 4 == 3:
                    app.fail_next_commit()
                calls = [actor.get(), actor.get(), actor.restart(), actor.get(), actor.add(), actor.get(), actor.add(), actor.get()]
                for reply in await asyncio.gather(*calls, return_exceptions=True):
                    assert reply is None or isinstance(reply, int | Aborted | DurabilityLost), repr(reply)
            done = await actor.get()
            await app.crash()
            assert await actor.get() == done
            assert await actor.add() == done + 1

    run(main, seed=seed)


class Plain(Actor):
    value: int = durable(0)

    async def increment(self) -> int:
        self.value += 1
        return self.value

    @reads
    async def current(self) -> int:
        return self.value


async def test_a_turn_leaves_nothing_to_the_garbage_collector() -> None:
    """What a turn used is freed when it ends: no cycles, whose collection would stop every actor for a while."""
    async with TestApp.of(actors={"plain": Plain}) as app:
        plain = app.env.PLAIN.get("a")
        await plain.increment()
        with garbage() as left:
            for _ in range(20):
                await plain.increment()
                await plain.current()
    assert left == []


class Crowd(Actor):
    async def wait(self, wait_s: float) -> None:
        await sleep(wait_s)


def turns_there() -> int:
    gc.collect()
    return sum(type(thing) is Turn for thing in gc.get_objects())


async def test_a_slow_turn_does_not_keep_those_that_came_after_it() -> None:
    """Turns that have ended are let go while one that began before them still runs, and the limit of each holds all the same."""
    async with TestApp.of(actors={"crowd": Crowd}) as app:
        before = turns_there()
        slow = asyncio.get_running_loop().create_task(app.env.CROWD.get("slow").wait(100))
        await app.clock.advance(0.1)
        for _ in range(3 * QUEUE_TURNS_MIN + 100):
            await app.env.CROWD.get("quick").wait(0)
        assert turns_there() - before <= 3  # the slow one, and those that were there when a timer was set
        with pytest.raises(TurnTimeout):
            await slow
        with pytest.raises(TurnTimeout):
            await app.env.CROWD.get("quick").wait(100)
