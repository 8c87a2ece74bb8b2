"""The deterministic loop: a seed repeats a run, time is virtual, and nothing hangs or fails unseen."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from stead import clock
from stead.errors import Invalid, SteadError
from stead.testing import loop as loop_module
from stead.testing.loop import Process, Refused, SeededLoop, Stuck, current_clock, run

SEEDS = range(1, 201)
DAY_S = 86400


async def racing(trace: list[str]) -> None:
    """Five tasks of three steps each, a group that is cancelled, and timers of one moment."""

    async def steps(name: str) -> None:
        for step in range(3):
            trace.append(f"{name}{step}")
            await clock.sleep(0)

    async def sleeper(name: str) -> None:
        try:
            await clock.sleep(DAY_S)
        finally:
            trace.append(f"{name} cancelled")

    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(steps(name))
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            for name in "fghij":
                tasks.create_task(sleeper(name))
            await clock.sleep(1)
            raise ValueError
    await asyncio.gather(*(clock.sleep(1) for _ in range(3)))


def trace_of(seed: int) -> tuple[str, ...]:
    trace: list[str] = []
    run(racing(trace), seed=seed)
    return tuple(trace)


def test_same_seed_same_run() -> None:
    """One seed always gives the same interleaving, cancellations of a TaskGroup included, whatever else is in memory."""
    ballast: list[Any] = []
    for seed in SEEDS:
        first = trace_of(seed)
        ballast.append([object() for _ in range(seed)])  # moves addresses
        assert trace_of(seed) == first


def test_other_seed_other_run() -> None:
    """Different seeds interleave differently."""
    assert len({trace_of(seed) for seed in SEEDS}) > 150


def test_seed_0_keeps_the_order_of_asyncio() -> None:
    """Seed 0 runs callbacks first in, first out."""
    trace: list[str] = []
    with asyncio.Runner() as runner:

        async def main() -> None:
            await asyncio.gather(*(note(n) for n in "abcd"))

        async def note(name: str) -> None:
            trace.append(name)
            await clock.sleep(0)
            trace.append(name.upper())

        runner.run(main())
        real, trace = trace, []
        run(main)
    assert trace == real == [*"abcdABCD"]


async def count_to(total: int, lock: asyncio.Lock | None) -> int:
    """`total` tasks add one to a shared counter: read, wait, write."""
    value = 0

    async def add() -> None:
        nonlocal value
        read = value
        await clock.sleep(0)
        value = read + 1

    async def add_locked(lock: asyncio.Lock) -> None:
        async with lock:
            await add()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(total):
            tasks.create_task(add() if lock is None else add_locked(lock))
    return value


def test_a_lost_update_is_found_and_a_lock_mends_it() -> None:
    """The planted bug: a counter read before a wait and written after it loses updates, in different ways under different seeds."""
    racy = {run(count_to(4, None), seed=seed) for seed in SEEDS}
    assert len(racy) > 1
    assert min(racy) < 4
    assert {run(count_to(4, asyncio.Lock()), seed=seed) for seed in SEEDS} == {4}


def test_an_order_nobody_promised_is_found() -> None:
    """The planted bug: code that takes the order of creation for the order of execution passes on seed 0 and not on others."""

    async def first_of_two() -> str:
        order: list[str] = []

        async def note(name: str) -> None:
            order.append(name)

        await asyncio.gather(note("writer"), note("reader"))
        return order[0]

    assert run(first_of_two) == "writer"
    assert {run(first_of_two, seed=seed) for seed in SEEDS} == {"writer", "reader"}


def test_days_pass_at_once_and_timers_fire_in_order() -> None:
    """Timers fire in the order of their moments, exactly at them, however long that is."""

    async def main() -> list[tuple[float, float]]:
        fired: list[tuple[float, float]] = []

        async def wait(delay_s: float) -> None:
            await clock.sleep(delay_s)
            fired.append((delay_s, current_clock().elapsed_s()))

        async with asyncio.TaskGroup() as tasks:
            for delay_s in (400 * DAY_S, 0.25, 3 * DAY_S, 7, 0.001):
                tasks.create_task(wait(delay_s))
        return fired

    for seed in SEEDS:
        assert run(main, seed=seed) == [(s, s) for s in (0.001, 0.25, 7, 3 * DAY_S, 400 * DAY_S)]


def test_cancelled_timers_cost_no_time() -> None:
    """A timeout that was not needed does not move the clock."""

    async def main() -> float:
        async with asyncio.timeout(DAY_S):
            await clock.sleep(1)
        await clock.sleep(1)
        return current_clock().elapsed_s()

    assert run(main) == 2


def test_advance_runs_everything_due_and_waits_for_it() -> None:
    """`advance` returns when whatever was due has run, and what that started, and nothing that is due later."""

    async def main() -> list[int]:
        ticks: list[int] = []

        async def tick_every_10_s() -> None:
            while True:
                await clock.sleep(10)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(note())

        async def note() -> None:
            for _ in range(5):
                await clock.sleep(0)
            ticks.append(round(current_clock().elapsed_s()))

        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(tick_every_10_s())
            await current_clock().advance(30)
            assert ticks == [10, 20, 30]
            await current_clock().advance(9.999)
            assert ticks == [10, 20, 30]
            await current_clock().advance(hours=1)
            ticker.cancel()
        return ticks

    for seed in SEEDS[:50]:
        assert run(main, seed=seed)[-1] == 3630


def test_wait_idle_passes_no_time() -> None:
    """`wait_idle` returns when nothing else is ready, before the next timer; several may wait."""

    async def main() -> tuple[int, float]:
        steps = 0

        async def work() -> None:
            nonlocal steps
            for _ in range(20):
                steps += 1
                await clock.sleep(0)
            await clock.sleep(1)
            steps += 1

        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
            tasks.create_task(loop.wait_idle())
            await loop.wait_idle()
            return steps, loop.time()

    assert {run(main, seed=seed) for seed in SEEDS[:50]} == {(20, 0.0)}


def test_wall_clock_jumps_both_ways() -> None:
    """The wall clock follows virtual time and jumps on its own; the stopwatch does not jump."""

    async def main() -> None:
        now = current_clock()
        assert now.now_ms() == 1_000_000
        await now.advance(minutes=1)
        assert now.now_ms() == 1_060_000
        now.jump(-500_000)
        assert (now.now_ms(), now.elapsed_s()) == (560_000, 60)
        now.jump(DAY_S * 1000)
        assert (now.now_ms(), now.elapsed_s()) == (86_960_000, 60)
        with pytest.raises(Invalid, match=r"jump\(\)"):
            await now.advance(-1)

    run(main, start_ms=1_000_000)


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 86400.7, 1e7 + 0.1])
def test_a_timer_is_never_early_on_the_wall_clock(delay_s: float) -> None:
    """Who sleeps until a millisecond finds that it has come, through sums of floats that are not exact."""

    async def main() -> None:
        now = current_clock()
        for _ in range(50):
            await clock.sleep(0.0001)
            due_ms = now.now_ms() + round(delay_s * 1000)
            await clock.sleep((due_ms - now.now_ms()) / 1000)
            assert now.now_ms() == due_ms

    run(main)


def test_stuck_says_who_waits_where() -> None:
    """A run that can never go on is an error that names every waiting task and the line it waits at."""

    async def holds_one_wants_other(one: asyncio.Lock, other: asyncio.Lock) -> None:
        async with one:
            await clock.sleep(1)
            async with other:
                pass

    async def main() -> None:
        left, right = asyncio.Lock(), asyncio.Lock()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(holds_one_wants_other(left, right), name="left")
            tasks.create_task(holds_one_wants_other(right, left), name="right")

    with pytest.raises(Stuck, match="nothing can ever run again") as stuck:
        run(main, seed=7)
    text = str(stuck.value)
    assert "(seed 7)" in text
    for name in ("left", "right"):
        assert f"\n  {name}: " in text
    assert text.count("holds_one_wants_other (test_testing_loop.py:") == 2
    assert text.count("Lock.acquire (locks.py:") == 2


def test_livelock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never waits for anything ends in an error, not in a hang."""
    monkeypatch.setattr(loop_module, "CALLBACKS_MAX", 1000)

    async def main() -> None:
        while True:
            await clock.sleep(0)

    with pytest.raises(Stuck, match="callbacks never end") as stuck:
        run(main)
    assert "test_livelock_is_an_error.<locals>.main (test_testing_loop.py:" in str(stuck.value)


async def _thread() -> None:
    await asyncio.to_thread(int)


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _serve() -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def _datagram() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def _subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _resolve() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def _reader() -> None:
    with socket.socket() as plug:
        asyncio.get_running_loop().add_reader(plug, int)


async def _signal() -> None:
    asyncio.get_running_loop().add_signal_handler(2, int)


@pytest.mark.parametrize("reach_out", [_thread, _connect, _serve, _datagram, _subprocess, _resolve, _reader, _signal])
def test_the_world_outside_is_refused(reach_out: Callable[[], Any]) -> None:
    """Threads, sockets, processes and signals raise an error that says what to do instead."""
    with pytest.raises(Refused, match="in memory"):
        run(reach_out)


def test_a_thread_may_not_call_in() -> None:
    """A real thread's call into the loop is refused in the thread."""

    async def main() -> list[SteadError]:
        refused: list[SteadError] = []
        loop = asyncio.get_running_loop()

        def call_in() -> None:
            try:
                loop.call_soon_threadsafe(int)
            except SteadError as exc:
                refused.append(exc)

        thread = threading.Thread(target=call_in)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(int)
        return refused

    assert [type(error) for error in run(main)] == [Refused]


def test_errors_nobody_handled_fail_the_run() -> None:
    """An error in a callback, and one of a task that nobody awaited, are raised at the end."""

    async def fails() -> None:
        raise KeyError("lost")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        kept = loop.create_task(fails(), name="kept")
        loop.call_soon(loop.create_task, fails())
        loop.call_soon(divmod, 1, 0)
        await current_clock().advance(0)
        assert kept.done()

    for seed in range(20):
        with pytest.raises(ExceptionGroup, match="nobody handled these") as group:
            run(main, seed=seed)
        assert sorted(type(error).__name__ for error in group.value.exceptions) == ["KeyError", "KeyError", "ZeroDivisionError"]


def test_errors_nobody_handled_are_notes_on_the_error_under_way() -> None:
    """The run's own error keeps its type; what else went wrong is written on it."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(divmod, 1, 0)
        await clock.sleep(1)
        raise LookupError("own")

    with pytest.raises(LookupError, match="own") as own:
        run(main)
    assert any("ZeroDivisionError" in note for note in own.value.__notes__)


def test_tasks_left_over_are_cancelled_and_may_clean_up() -> None:
    """When main returns, the other tasks are cancelled, in the order they were made, and their clean-up runs."""
    trace: list[str] = []

    async def left_over(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            trace.append(name)
            await clock.sleep(DAY_S)
            trace.append(name.upper())

    async def main() -> None:
        for name in "abc":
            asyncio.get_running_loop().create_task(left_over(name))
        await current_clock().advance(1)

    run(main)
    assert trace == [*"abcABC"]


@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_tasks_that_refuse_to_end_are_reported(wait_s: float | None) -> None:
    """A task that swallows its cancellation fails the run by name, whether it then waits for ever or goes round and round."""

    async def stubborn() -> None:
        while True:
            try:
                await (asyncio.Event().wait() if wait_s is None else clock.sleep(wait_s))
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        asyncio.get_running_loop().create_task(stubborn(), name="stubborn")
        await current_clock().advance(1)

    with pytest.raises(ExceptionGroup) as group:
        run(main, seed=3)
    (error,) = group.value.exceptions
    assert isinstance(error, Stuck)
    assert "refuse to end (seed 3):\n  stubborn: " in str(error)


def test_what_asyncio_offers_works() -> None:
    """Timeouts, groups, queues, locks, conditions, generators and `wait_for` keep their meaning under every order."""

    async def main() -> tuple[list[int], float]:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
        received: list[int] = []

        async def produce() -> None:
            for item in range(10):
                await queue.put(item)
                await clock.sleep(0.5)
            await queue.put(None)

        async def consume() -> None:
            received.extend([item async for item in items()])

        async def items() -> Any:
            while (item := await queue.get()) is not None:
                yield item

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            tasks.create_task(consume())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await queue.get()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 3)
        condition = asyncio.Condition()
        async with condition:
            asyncio.get_running_loop().create_task(notify(condition))
            await condition.wait()
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(clock.sleep(DAY_S))
                raise ValueError
        return received, asyncio.get_running_loop().time()

    async def notify(condition: asyncio.Condition) -> None:
        async with condition:
            condition.notify_all()

    for seed in SEEDS[:100]:
        assert run(main, seed=seed) == (list(range(10)), 10.0)


def test_the_virtual_clock_is_found_on_its_own_loop_only() -> None:
    """Asking for a virtual clock elsewhere is an error that names the loop."""

    async def main() -> None:
        current_clock()

    with asyncio.Runner() as runner, pytest.raises(Invalid, match="SeededLoop"):
        runner.run(main())


def test_a_frozen_process_stands_still() -> None:
    """Nothing of it runs while it is frozen, whatever started it; others and time go on; thawed, it has lost nothing."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        process = Process("a")
        ticks: list[float] = []
        others: list[float] = []

        async def tick(into: list[float]) -> None:
            while True:
                await clock.sleep(1)
                into.append(loop.time())

        async def whole() -> None:
            """A process that starts tasks in a context of their own, timers and callbacks."""
            loop.call_later(5.5, ticks.append, 5.5)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(tick(ticks), context=contextvars.Context())

        frozen, free = loop.create_task(whole(), context=process.context()), loop.create_task(tick(others))
        await clock.sleep(3.5)
        assert ticks == [1, 2, 3]
        loop.freeze(process)
        await clock.sleep(5)
        assert ticks == [1, 2, 3]
        assert len(others) == 8
        loop.thaw(process)
        await clock.sleep(1.5)
        assert sorted(ticks[3:5]) == [5.5, 8.5]
        assert ticks[5:] == [9.5]
        loop.freeze(process)
        frozen.cancel()
        await clock.sleep(5)
        assert not frozen.done()
        loop.thaw(process)
        free.cancel()
        await asyncio.wait([frozen, free])

    for seed in range(20):
        run(main, seed=seed)


def test_what_is_frozen_at_the_end_ends() -> None:
    """A loop whose processes are frozen still cleans up after itself."""
    ended = []

    async def waiting() -> None:
        try:
            await clock.sleep(DAY_S)
        finally:
            ended.append(True)

    async def main() -> None:
        loop, process = asyncio.get_running_loop(), Process("a")
        assert isinstance(loop, SeededLoop)
        process.context().run(loop.create_task, waiting())
        await clock.sleep(1)
        loop.freeze(process)

    run(main)
    assert ended
