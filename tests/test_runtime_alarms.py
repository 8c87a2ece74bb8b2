"""Alarms: at least once, never beside itself, retried, kept when dead, whatever the clock does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from stead import Actor, Alarm, AlarmInfo, Invalid, durable, on_alarm
from stead.clock import sleep
from stead.runtime import alarms as alarms_module
from stead.testing import TestApp, run
from stead.testing.loop import START_MS

pytestmark = pytest.mark.usefixtures("clock")
HOUR_MS = 3_600_000


class Bell(Actor):
    """Writes down when it rang; `plan` says what the handler does."""

    tried: ClassVar[list[tuple[str, int, float]]] = []  # name, retry_count, loop time; a list outside the turns
    plan: ClassVar[str] = ""
    rung: list[str] = durable(factory=list)

    async def set(self, name: str, when: Any = None, **how: Any) -> None:
        await self.alarms.set(name, when, **how)

    async def set_for(self, name: str, offset_s: float, payload: Any = None) -> None:
        await self.alarms.set(name, timedelta(seconds=offset_s), payload)

    async def set_then_fail(self, name: str) -> None:
        await self.alarms.set(name, timedelta(seconds=1))
        raise ValueError("after set")

    async def repeat(self, name: str, every_s: float | None = None, cron: str | None = None) -> None:
        await self.alarms.set(name, every=None if every_s is None else timedelta(seconds=every_s), cron=cron)

    async def cancel(self, name: str) -> bool:
        return await self.alarms.cancel(name)

    async def retry(self, name: str) -> bool:
        return await self.alarms.retry(name)

    async def get(self, name: str) -> Alarm | None:
        return await self.alarms.get(name)

    async def names(self) -> list[str]:
        return [alarm.name for alarm in await self.alarms.list()]

    async def seen(self) -> list[str]:
        return self.rung

    async def poke(self) -> str:
        return "poked"

    async def block(self, wait_s: float) -> None:
        await sleep(wait_s)

    async def wipe(self) -> None:
        await self.storage.delete_all()

    async def default(self) -> list[Any]:
        await self.storage.set_alarm(timedelta(hours=1))
        due = await self.storage.get_alarm()
        await self.storage.delete_alarm()
        return [due, await self.storage.get_alarm()]

    async def alarm(self, alarm: AlarmInfo) -> None:
        loop_s = asyncio.get_running_loop().time()
        self.tried.append((alarm.name, alarm.retry_count, loop_s))
        self.rung.append(f"{alarm.name}:{alarm.payload}")
        match self.plan:
            case "fail":
                raise ValueError("bad alarm")
            case "call and fail":
                await self.env.BELL.get("other").poke()
                raise ValueError("bad alarm")
            case "call":
                await self.env.BELL.get("other").poke()
            case "see":
                self.rung.append(str(await self.alarms.get(alarm.name)))
            case "again":
                await self.alarms.set(alarm.name, timedelta(hours=1), "again")
            case "again, call and fail":
                await self.alarms.set(alarm.name, timedelta(hours=1), "again")
                await self.env.BELL.get("other").poke()
                raise ValueError("bad alarm")
            case "cancel and fail":
                await self.alarms.cancel(alarm.name)
                raise ValueError("bad alarm")
            case "slow":
                await sleep(5)
                self.tried.append((f"{alarm.name} ended", 0, loop_s + 5))
            case "hang":
                await sleep(10_000)
            case "abort":
                self.ctx.abort("no")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Bell.tried, Bell.plan = [], ""


def bells() -> TestApp:
    return TestApp.of(actors={"bell": Bell})


async def test_an_alarm_rings_at_its_moment_with_its_payload() -> None:
    """Not before, and to the millisecond; then it is gone."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("tea", 90, {"cups": 2})
        await app.clock.advance(89.9)
        assert Bell.tried == []
        await app.clock.advance(0.2)
        assert await bell.seen() == ["tea:{'cups': 2}"]
        assert 90 <= Bell.tried[0][2] < 90.01
        assert await bell.names() == []


async def test_it_rings_after_hibernation_and_after_a_crash() -> None:
    """The row wakes the actor; what was overdue while nobody ran rings at the start."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("late", 100)
        await app.clock.advance(50)
        assert app.stats()["residents"] == 0
        await app.crash()
        app.clock.jump(HOUR_MS)
        await app.clock.advance(11)
        assert await bell.seen() == ["late:None"]


async def test_setting_again_replaces_and_a_name_is_one_alarm() -> None:
    """The last time and payload win; cancelling says whether there was one; a failing turn sets nothing."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 10, "old")
        await bell.set_for("x", 20, "new")
        await bell.set_for("x", 20, "new")
        await bell.set_for("gone", 5)
        assert await bell.cancel("gone") is True
        assert await bell.cancel("gone") is False
        with pytest.raises(ValueError):
            await bell.set_then_fail("never")
        await app.clock.advance(60)
        assert await bell.seen() == ["x:new"]
        assert len(Bell.tried) == 1


async def test_a_moment_in_the_past_is_due_at_once() -> None:
    """It is kept as now; and all the ways to name a moment work."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set("int", START_MS - HOUR_MS)
        await bell.set("datetime", datetime(2020, 1, 1, tzinfo=UTC))
        await app.clock.advance(0.1)
        assert sorted(await bell.seen()) == ["datetime:None", "int:None"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"name": "x"}, "needs when, every=… or cron=…"),
        ({"name": "x", "when": 0}, "outside the years"),
        ({"name": "x", "when": datetime(2026, 1, 1)}, "needs a time zone"),
        ({"name": "x", "when": "soon"}, "a moment is a datetime"),
        ({"name": "x", "every": timedelta(milliseconds=10)}, "at least 1 s"),
        ({"name": "x", "cron": "nonsense"}, "no cron expression"),
        ({"name": "x", "cron": "0 0 30 2 *"}, "cron expression"),
        ({"name": "x", "every": timedelta(hours=1), "cron": "@daily"}, "not both"),
        ({"name": "x", "cron": "@daily", "timezone": "Europe/Berlinn"}, "no time zone"),
        ({"name": "x", "every": timedelta(hours=1), "timezone": "Europe/Berlin"}, "timezone is for cron"),
        ({"name": "x" * 3000, "when": 5}, "may have 2,048 bytes"),
        ({"name": "\ud800", "when": 5}, "Unicode"),
        ({"name": "\0outbox", "when": 5}, "null character"),
    ],
)
async def test_a_wrong_alarm_is_refused(how: dict[str, Any], said: str) -> None:
    """The error says what to do, and nothing is set."""
    async with bells() as app:
        with pytest.raises(Invalid, match=said):
            await app.env.BELL.get("a").set(**how)
        assert await app.env.BELL.get("a").names() == []


async def test_a_class_without_alarm_cannot_set_one() -> None:
    """An alarm that nothing would handle is refused when it is set."""

    class Deaf(Actor):
        async def set(self) -> None:
            await self.storage.set_alarm(timedelta(hours=1))

    async with TestApp.of(actors={"deaf": Deaf}) as app:
        with pytest.raises(Invalid, match=r"needs an alarm\(\) method"):
            await app.env.DEAF.get("a").set()


async def test_the_unnamed_alarm() -> None:
    """`storage.set_alarm` is the alarm named "", in milliseconds since 1970."""
    async with bells() as app:
        assert await app.env.BELL.get("a").default() == [START_MS + HOUR_MS, None]


async def test_a_failing_alarm_backs_off_and_is_kept_when_dead() -> None:
    """One run and six retries, 2 s doubling with up to a quarter more; then dead, kept with its error, until `retry`."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        Bell.plan = "fail"
        await bell.set_for("x", 1, "p")
        await app.clock.advance(600)
        assert [count for _, count, _ in Bell.tried] == list(range(7))
        for n, (before, after) in enumerate(zip(Bell.tried, Bell.tried[1:], strict=False)):
            assert 2 * 2**n <= after[2] - before[2] <= 2.51 * 2**n
        assert await bell.seen() == []
        dead = await bell.get("x")
        assert (dead.dead, dead.retry_count, dead.error, dead.payload) == (True, 6, "ValueError: bad alarm", "p")
        await app.crash()
        await app.clock.advance(600)
        assert len(Bell.tried) == 7
        Bell.plan = ""
        assert await bell.retry("x") is True
        await app.clock.advance(1)
        assert Bell.tried[-1][1] == 0
        assert await bell.seen() == ["x:p"]
        assert await bell.names() == []
        assert await bell.retry("x") is False


@pytest.mark.parametrize("plan", ["call and fail", "cancel and fail", "abort", "hang"])
async def test_every_way_to_fail_is_retried(plan: str) -> None:
    """A handler that called out before it failed, cancelled its alarm, aborted or hung has not run: its alarm is kept."""
    async with bells() as app:
        Bell.plan = plan
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 1)
        await app.clock.advance(31 if plan == "hang" else 1)
        await app.clock.advance(1)
        assert len(Bell.tried) == 1
        Bell.plan = ""
        await app.clock.advance(5)
        assert [count for _, count, _ in Bell.tried] == [0, 1]
        assert (await bell.seen())[-1] == "x:None"
        assert await bell.names() == []


async def test_a_crash_after_the_handler_called_out_runs_it_again() -> None:
    """What the handler committed on its way is no end: only the turn's last commit takes the alarm out."""
    async with bells() as app:
        Bell.plan = "call"
        bell = app.env.BELL.get("a")
        await app.env.BELL.get("other").poke()
        await bell.set_for("x", 1)
        blocked = asyncio.gather(app.env.BELL.get("other").block(20), return_exceptions=True)
        await app.clock.advance(5)
        assert len(Bell.tried) == 1
        await app.crash()
        await blocked
        await app.clock.advance(5)
        assert len(Bell.tried) == 2
        assert await bell.seen() == ["x:None", "x:None"]
        assert await bell.names() == []


async def test_inside_its_handler_an_alarm_is_gone() -> None:
    """`get` is None while it runs, unless the handler sets it again."""
    async with bells() as app:
        Bell.plan = "see"
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 1)
        await app.clock.advance(2)
        assert await bell.seen() == ["x:None", "None"]
        Bell.plan = "again"
        await bell.set_for("y", 1)
        await app.clock.advance(2)
        Bell.plan = ""
        await app.clock.advance(hours=1)
        assert (await bell.seen())[2:] == ["y:None", "y:again"]


async def test_an_alarm_that_its_failing_run_replaced_and_committed_is_the_new_one() -> None:
    """It waits for its own moment with no failures counted; the old one is not retried."""
    async with bells() as app:
        Bell.plan = "again, call and fail"
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 1)
        await app.clock.advance(100)
        alarm = await bell.get("x")
        assert (alarm.retry_count, alarm.payload, len(Bell.tried)) == (0, "again", 1)


async def test_an_alarm_never_runs_beside_itself() -> None:
    """A run longer than the period delays the next one; set again during a run, it waits for the end."""
    async with bells() as app:
        Bell.plan = "slow"
        bell = app.env.BELL.get("a")
        await bell.repeat("x", 2)
        await app.clock.advance(1.9)
        await app.clock.advance(20)
        names = [name for name, _, _ in Bell.tried]
        assert names[:6] == ["x", "x ended"] * 3


@pytest.mark.parametrize(
    ("how", "period_ms"), [({"every_s": 3600.0}, HOUR_MS), ({"cron": "0 * * * *"}, HOUR_MS), ({"cron": "@hourly"}, HOUR_MS)]
)
async def test_a_recurring_alarm_keeps_its_beat_and_missed_ones_ring_once(how: dict[str, Any], period_ms: int) -> None:
    """Occurrences that passed while nobody looked give one run, and the next one is on the beat again."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.repeat("x", **how)
        await app.clock.advance(hours=2, minutes=30)
        assert len(Bell.tried) == 2
        app.clock.jump(5 * period_ms)
        await app.clock.advance(20)
        assert len(Bell.tried) == 3
        assert (await bell.get("x")).due_ms == START_MS + 8 * period_ms
        await bell.cancel("x")
        await app.clock.advance(hours=3)
        assert len(Bell.tried) == 3


async def test_a_cron_alarm_goes_by_its_time_zone_through_crashes() -> None:
    """Its occurrences are in that zone, those after the first one, too."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set("x", cron="30 9 * * *", timezone="Asia/Kolkata")
        await app.clock.advance(days=1, hours=12)
        await app.crash()
        alarm = await bell.get("x")
        assert alarm.timezone == "Asia/Kolkata"
        assert datetime.fromtimestamp(alarm.due_ms / 1000, UTC).strftime("%H:%M") == "04:00"


async def test_a_recurring_alarm_whose_run_called_out_and_failed_keeps_its_occurrence() -> None:
    """The retry is of the occurrence that failed; the beat does not move."""
    async with bells() as app:
        Bell.plan = "call and fail"
        bell = app.env.BELL.get("a")
        await bell.repeat("x", 3600.0)
        await app.clock.advance(hours=1, seconds=1)
        Bell.plan = ""
        await app.clock.advance(10)
        assert [count for _, count, _ in Bell.tried] == [0, 1]
        assert (await bell.get("x")).due_ms == START_MS + 2 * HOUR_MS


async def test_clock_jumps() -> None:
    """Forward: rung within the time between two looks at the clock. Back: not before the moment, which is wall time."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 7200)
        app.clock.jump(2 * HOUR_MS)
        await app.clock.advance(10.1)
        assert len(Bell.tried) == 1
        await bell.set_for("y", 60)
        app.clock.jump(-HOUR_MS)
        await app.clock.advance(minutes=30)
        assert len(Bell.tried) == 1
        await app.clock.advance(minutes=32)
        assert len(Bell.tried) == 2


async def test_an_alarm_is_on_time_while_another_one_runs() -> None:
    """One that is due just before it does not delay it."""
    async with bells() as app:
        await app.env.BELL.get("a").set_for("first", 10)
        await app.env.BELL.get("b").set_for("second", 10.3)
        Bell.plan = "slow"
        await app.clock.advance(20)
        assert 10.3 <= next(at for name, _, at in Bell.tried if name == "second") < 10.31


async def test_more_alarms_than_may_be_under_way() -> None:
    """All of a crowd that is due at once ring, each once."""
    async with bells() as app:
        for number in range(700):
            await app.env.BELL.get(str(number)).set("x", START_MS + HOUR_MS)
        await app.clock.advance(hours=1, seconds=5)
        assert len(Bell.tried) == 700


async def test_alarms_of_an_actor_that_refuses_do_not_starve_others() -> None:
    """However many alarms of a full mailbox come first in the index, those of others ring."""

    class Narrow(Bell):
        mailbox_events_max = 1

        async def set_many(self, count: int) -> None:
            for number in range(count):
                await self.alarms.set(f"n{number}", timedelta(seconds=1))

    async with TestApp.of(actors={"narrow": Narrow, "bell": Bell}) as app:
        await app.env.NARROW.get("a").set_many(600)
        await app.env.BELL.get("z").set_for("other", 2)
        blocked = asyncio.gather(app.env.NARROW.get("a").block(5))
        await app.clock.advance(4)
        assert [name for name, _, _ in Bell.tried] == ["other"]
        await app.clock.advance(2)
        await blocked
        await app.clock.advance(10)
        assert len(Bell.tried) > 1


async def test_delete_all_takes_the_alarms_too() -> None:
    """An erased actor rings no more."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 5)
        await bell.wipe()
        await app.clock.advance(60)
        assert Bell.tried == []


async def test_a_failing_disk_is_not_the_alarms_fault() -> None:
    """A run whose commit is lost is repeated and does not count as a failure."""
    async with bells() as app:
        bell = app.env.BELL.get("a")
        await bell.set_for("x", 5)
        await app.clock.advance(4)
        app.fail_next_commit()
        await app.clock.advance(20)
        assert [(name, count) for name, count, _ in Bell.tried] == [("x", 0), ("x", 0)]
        assert await bell.seen() == ["x:None"]


@pytest.mark.parametrize("seed", range(25))
def test_no_crash_loses_an_alarm(seed: int) -> None:
    """Crashing around set, fire and settle: every alarm that was acknowledged rings at least once."""
    Bell.tried, Bell.plan = [], "call"

    async def main() -> None:
        async with bells() as app:
            for number in range(6):
                await app.env.BELL.get(f"n{number}").set_for(f"x{number}", number + 1)
            for _ in range(8):
                await app.clock.advance(0.7 + app.seed % 7 / 10)
                await app.crash()
            await app.clock.advance(60)
            for number in range(6):
                rung = await app.env.BELL.get(f"n{number}").seen()
                assert rung and set(rung) == {f"x{number}:None"}
                assert await app.env.BELL.get(f"n{number}").names() == []

    run(main, seed=seed)


def test_the_error_kept_is_bounded() -> None:
    """The bound of what is kept of an error is stated."""
    assert alarms_module.ERROR_CHARS_MAX == 500


class Keeper(Actor):
    """Two alarms with methods of their own, one by a mixin's base, and one without."""

    ran: list[str] = durable(factory=list)

    async def arm(self, name: str) -> None:
        await self.alarms.set(name, timedelta(seconds=1))

    async def have_run(self) -> list[str]:
        return self.ran

    @on_alarm("sweep")
    async def _sweep(self, alarm: AlarmInfo) -> None:
        self.ran.append(f"sweep {alarm.name}")


class LoudKeeper(Keeper):
    async def alarm(self, alarm: AlarmInfo) -> None:
        self.ran.append(f"alarm {alarm.name}")


async def test_an_alarm_may_have_a_method_of_its_own() -> None:
    """`@on_alarm` takes the alarm of its name; the others go to `alarm()`, and without one they are refused."""
    async with TestApp.of(actors={"keeper": Keeper, "loud": LoudKeeper}) as app:
        keeper, loud = app.env.KEEPER.get("a"), app.env.LOUD.get("a")
        await keeper.arm("sweep")
        with pytest.raises(Invalid, match="on_alarm"):
            await keeper.arm("other")
        await loud.arm("sweep")
        await loud.arm("other")
        await app.clock.advance(2)
        assert await keeper.have_run() == ["sweep sweep"]
        assert sorted(await loud.have_run()) == ["alarm other", "sweep sweep"]


async def test_an_alarm_without_its_unit_waits_and_is_said_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """A unit that left the application leaves its alarms: they ring when it is back, and hold up nobody meanwhile."""
    async with TestApp.of(actors={"bell": Bell, "other": Bell}) as app:
        await app.env.BELL.get("a").set_for("x", 60)
        await app.env.OTHER.get("b").set_for("y", 120)
        bell = app.application.actors.pop("bell")
        await app.crash()
        await app.clock.advance(hours=2, minutes=30)
        assert [name for name, _, _ in Bell.tried] == ["y"]
        said = [record for record in caplog.records if "there is no actor unit 'bell'" in record.getMessage()]
        assert len(said) == 3
        app.application.actors["bell"] = bell
        await app.crash()
        await app.clock.advance(minutes=1)
        assert [name for name, _, _ in Bell.tried] == ["y", "x"]
