"""Tasks: code that runs when its cron says so, once for what was missed, never beside itself, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest

from stead import Invalid, Task, Tick
from stead.bindings import Binding, Outcome, ScheduledTask, TaskSettings, schedule_class, task_service
from stead.bindings.task.actor import BEGINNINGS_MAX, RUNS_KEPT, TaskActor
from stead.clock import sleep
from stead.ids import Chance
from stead.manifest import ManifestErrors
from stead.node import load_application
from stead.testing import TestApp, VirtualClock, check, find

pytestmark = pytest.mark.usefixtures("clock")

HOURLY = "0 * * * *"


class Work(Task):
    """Does what `plan` says, and keeps which ticks it was told of and how many of it ran at once."""

    ticks: ClassVar[list[Tick]] = []
    ended: ClassVar[list[Tick]] = []
    running: ClassVar[int] = 0
    running_max: ClassVar[int] = 0
    plan: ClassVar[Callable[[Work], Any] | None] = None

    async def run(self, tick: Tick) -> None:
        cls = type(self)
        cls.ticks.append(tick)
        cls.running += 1
        cls.running_max = max(cls.running_max, cls.running)
        try:
            if Work.plan is not None:
                await Work.plan(self)
        finally:
            cls.running -= 1
        cls.ended.append(tick)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    Work.ticks, Work.ended, Work.running, Work.running_max, Work.plan = [], [], 0, 0, None


def task(cron: str = HOURLY, timezone: str = "UTC") -> Binding:
    settings = TaskSettings(cron, timezone, "work.task")
    services = {settings.service: task_service("work", Work)}
    return Binding(schedule_class(settings), partial(ScheduledTask, settings=settings), services, ScheduledTask.start)


def with_task(cron: str = HOURLY, timezone: str = "UTC") -> TestApp:
    return TestApp.of(bindings={"work": task(cron, timezone)})


async def outcomes(app: TestApp) -> list[Outcome | None]:
    return [run.outcome for run in await app.env.WORK.history()]


async def test_it_runs_by_its_cron_from_the_first_start() -> None:
    """Nobody has to call anything; each tick tells the cron expression and its own time, and is in the history."""
    async with with_task() as app:
        start = app.env.now()
        await app.clock.advance(hours=2, minutes=30)
        hour = start.replace(minute=0, second=0, microsecond=0)
        assert [(tick.cron, tick.scheduled_time) for tick in Work.ticks] == [
            (HOURLY, hour + timedelta(hours=1)),
            (HOURLY, hour + timedelta(hours=2)),
        ]
        assert await outcomes(app) == [Outcome.SUCCEEDED] * 2
        status = await app.env.WORK.status()
        assert status.next_time == hour + timedelta(hours=3) and not status.is_running
        assert status.last is not None and status.last.number == 2


async def test_ticks_that_were_missed_happen_once() -> None:
    """While nobody ran five came due: one run after the start, told of the first that was missed; then the beat again."""
    async with with_task() as app:
        await app.clock.advance(minutes=30)
        hour = app.env.now().replace(minute=0, second=0, microsecond=0)
        app.clock.jump(5 * 3600 * 1000)
        await app.crash()
        await app.clock.advance(minutes=1)
        assert [tick.scheduled_time for tick in Work.ticks] == [hour + timedelta(hours=1)]
        await app.clock.advance(hours=1)
        assert [tick.scheduled_time for tick in Work.ticks][1:] == [hour + timedelta(hours=6)]


async def test_it_never_runs_beside_itself() -> None:
    """Ticks that come due during a run, and runs by hand, follow it; all ticks that one run was too slow for are one run."""

    async def slow(work: Work) -> None:
        await sleep(150)

    async with with_task("* * * * *") as app:
        Work.plan = slow
        by_hand = app.env.WORK.run()
        await app.clock.advance(minutes=5)
        await by_hand
        assert Work.running_max == 1
        assert 2 <= len(Work.ended) <= 3


async def test_a_failure_is_recorded_and_not_tried_again() -> None:
    """The next tick runs as if nothing had been."""

    async def fail(work: Work) -> None:
        raise ValueError("no such file")

    async with with_task() as app:
        Work.plan = fail
        await app.clock.advance(hours=1)
        Work.plan = None
        await app.clock.advance(minutes=55)
        assert len(Work.ticks) == 1
        last = (await app.env.WORK.status()).last
        assert (last.outcome, last.error) == (Outcome.FAILED, "ValueError: no such file")
        await app.clock.advance(minutes=10)
        assert await outcomes(app) == [Outcome.SUCCEEDED, Outcome.FAILED]


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_run_has_five_minutes(stubborn: bool) -> None:
    """Then it is cancelled; code that does not let itself be cancelled is given up a little later. Neither is tried again."""

    async def forever(work: Work) -> None:
        try:
            await sleep(10_000)
        except BaseException:
            if not stubborn:
                raise
            await sleep(600)

    async with with_task() as app:
        Work.plan = forever
        await app.clock.advance(hours=1, minutes=20)
        assert len(Work.ticks) == 1
        last = (await app.env.WORK.status()).last
        assert last.outcome is (Outcome.INTERRUPTED if stubborn else Outcome.TIMED_OUT)
        Work.plan = None
        await app.clock.advance(hours=1)
        assert len(Work.ended) == 1


async def test_a_run_that_ends_the_process_is_begun_again_but_not_for_ever() -> None:
    """A crash in the middle is no failure of the task, so the tick happens after the start; the third time it is given up."""

    async def hang(work: Work) -> None:
        await sleep(200)

    async with with_task() as app:
        Work.plan = hang
        await app.clock.advance(hours=1, seconds=5)
        for _ in range(BEGINNINGS_MAX + 1):
            assert Work.running == 1 or len(Work.ticks) == BEGINNINGS_MAX
            await app.crash()
            await app.clock.advance(seconds=5)
        assert len(Work.ticks) == BEGINNINGS_MAX
        assert await outcomes(app) == [Outcome.INTERRUPTED] * BEGINNINGS_MAX
        Work.plan = None
        await app.clock.advance(hours=1)
        assert (await outcomes(app))[0] is Outcome.SUCCEEDED


async def test_a_run_by_hand_says_how_it_went() -> None:
    """And leaves the schedule alone. A task that asks for its own run is told that it cannot."""

    async def again(work: Work) -> None:
        await work.env.WORK.run()

    async with with_task() as app:
        run = await app.env.WORK.run()
        assert (run.number, run.trigger, run.outcome) == (1, "manual", Outcome.SUCCEEDED)
        Work.plan = again
        run = await app.env.WORK.run()
        assert run.outcome is Outcome.FAILED and "cannot run itself" in run.error
        Work.plan = None
        await app.clock.advance(hours=1)
        assert [run.trigger for run in await app.env.WORK.history()] == ["cron", "manual", "manual"]


async def test_the_history_answers_during_a_run_and_is_bounded() -> None:
    """A run under way is shown as such; the last hundred are kept."""

    async def slow(work: Work) -> None:
        await sleep(100)

    async with with_task("* * * * *") as app:
        await app.clock.advance(minutes=RUNS_KEPT + 5)
        numbers = [run.number for run in await app.env.WORK.history()]
        assert numbers == list(range(RUNS_KEPT + 5, 5, -1))
        Work.plan = slow
        await app.clock.advance(minutes=1)
        status = await app.env.WORK.status()
        assert status.is_running and status.last is not None and status.last.outcome is None
        with pytest.raises(Invalid, match="limit"):
            await app.env.WORK.history(101)


async def test_another_cron_in_the_manifest_replaces_the_schedule() -> None:
    """At the next start; the history stays."""
    async with with_task() as app:
        await app.clock.advance(hours=1)
        app.application.bindings["work"] = task("30 3 * * *", "Europe/Berlin")
        await app.crash()
        await app.clock.advance(days=1)
        latest, first = await app.env.WORK.history()
        assert first.number == 1
        assert (latest.number, latest.scheduled_time.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M")) == (2, "03:30")


@pytest.mark.parametrize(
    ("start", "cron", "expected"),
    [
        (datetime(2024, 3, 30, 12, tzinfo=UTC), "30 2 * * *", [(31, 1, 0), (1, 0, 30)]),
        (datetime(2024, 10, 26, 12, tzinfo=UTC), "30 2 * * *", [(27, 0, 30), (28, 1, 30)]),
        (datetime(2024, 10, 26, 23, 45, tzinfo=UTC), "30 * * * *", [(27, 0, 30), (27, 1, 30), (27, 2, 30)]),
    ],
    ids=["does not exist", "exists twice", "every hour"],
)
async def test_a_time_zone_changes_its_clocks(
    clock: VirtualClock, start: datetime, cron: str, expected: list[tuple[int, int, int]]
) -> None:
    """In Berlin: 02:30 that is skipped runs at 03:00; 02:30 that comes twice runs once; every hour is every hour."""
    clock.jump(round(start.timestamp() * 1000) - clock.now_ms())
    async with with_task(cron, "Europe/Berlin") as app:
        await app.clock.advance(hours=48)
        times = [tick.scheduled_time.astimezone(UTC) for tick in Work.ticks]
        assert [(time.day, time.hour, time.minute) for time in times][: len(expected)] == expected


def scenario_of(seeds_plan: int) -> Callable[[int], Any]:
    async def scenario(seed: int) -> None:
        Work.ticks, Work.ended, Work.running, Work.running_max = [], [], 0, 0
        chance = Chance(seed)

        async def work(work: Work) -> None:
            await sleep(chance.below(200))
            if chance.below(4) == 0:
                raise ValueError("now and then")

        Work.plan = work
        async with with_task("* * * * *") as app:
            for _ in range(seeds_plan):
                match chance.below(4):
                    case 0:
                        await app.crash()
                        Work.running = 0
                    case 1:
                        app.clock.jump(chance.below(5) * 60_000)
                    case _:
                        await app.clock.advance(seconds=chance.below(120))
            await app.clock.advance(minutes=10)
            assert Work.running_max <= 1, "it ran beside itself"
            history = await app.env.WORK.history()
            done = [run.scheduled_time for run in history if run.outcome in {Outcome.SUCCEEDED, Outcome.FAILED}]
            assert len(done) == len(set(done)), "a tick that had been run was run again"
            assert history[0].started_at > app.env.now() - timedelta(minutes=5), "it has stopped running"
            begun = [tick.scheduled_time for tick in Work.ticks]
            assert all(begun.count(tick) <= BEGINNINGS_MAX for tick in begun)

    return scenario


def test_crashes_and_jumps_never_double_a_tick_nor_stop_the_schedule() -> None:
    """Over many seeds: no run beside another, no tick run to its end twice, none begun too often, and it goes on."""
    check(scenario_of(12), seeds=60)


def test_the_property_finds_a_task_that_runs_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the run is spawned instead of being the turn."""

    async def spawned(self: Any, run: Any) -> Any:
        async def work() -> None:
            service = getattr(self.env, "WORK.TASK")
            await service.run({"cron": "", "scheduled_time": run.scheduled_time})

        self.ctx.spawn(work())
        return run

    monkeypatch.setattr(TaskActor, "_run", spawned)
    find(scenario_of(12), seeds=60)


MANIFEST = 'application "a" { task "nightly" { cron = "@Daily" timezone = "Europe/Berlin" } }'


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "no class for task 'nightly'"),
        ("from stead import Task\nclass Nightly(Task): ...", "Nightly does nothing"),
        ("from stead import Task\nclass Nightly(Task):\n    def run(self, tick): ...", "Nightly.run is not async"),
        ("from stead import Task\nclass NightlyTask(Task):\n    async def run(self, tick): ...", None),
    ],
)
def test_its_class_is_found_by_its_name(tmp_path: Path, code: str, said: str | None) -> None:
    """As those of actors and services are; one that cannot work is refused before the start."""
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(code)
    if said is None:
        assert load_application(tmp_path).tasks["nightly"].__name__ == "NightlyTask"
    else:
        with pytest.raises(ManifestErrors, match=said):
            load_application(tmp_path)
