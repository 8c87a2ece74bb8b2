"""P6: an alarm runs at least once, never beside itself, and is never lost; retries back off, and after the last one it is dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from stead import Actor, AlarmInfo, Ambiguous, SteadError, durable
from stead.clock import sleep
from stead.ids import Chance
from stead.logic.retry import RETRIES_MAX
from stead.runtime.scheduler import POLL_S
from stead.runtime.turn import CURRENT, Turn
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.harness import beset_by, crashing, evicting, failing, jumping, together
from tests.properties.stage import App

ALARMS = 4
RUN_S = 0.05
SETTLED_S = 300.0  # in which every retry comes
JUMPS_S = 3 * 600.0  # the largest jumps back
LATE_S = POLL_S + 1  # how late an alarm may be: the wall clock's jumps are noticed at the next look at the index

Run = tuple[str, float]  # an alarm's name, and when a run of it began


class Scene:
    """What the handlers of one run did, with the process's death in between or not."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.run_s = RUN_S
        self._running: list[tuple[str, Turn]] = []
        self.problems: list[str] = []
        self.failures: Counter[str] = Counter()  # still to come, by alarm

    @contextmanager
    def run(self, key: str) -> Iterator[None]:
        """The code of a run of an alarm, beside which there may be no other one of an owner."""
        turn = CURRENT.get()
        assert turn is not None
        if _counts(turn) and any(other == key and _counts(beside) for other, beside in self._running):
            self.problems.append(f"{key} ran beside itself")
        self._running.append((key, turn))
        try:
            yield
        finally:
            self._running.remove((key, turn))


def _counts(turn: Turn) -> bool:
    """Whether what a turn does may still count: nobody has ended it, and its node has a lease if it needs one."""
    lease = turn.activation._here.lease
    return not turn.over and (lease is None or lease.is_held)


SCENE: list[tuple[App, Scene]] = []  # of the run under way


class Sleeper(Actor):
    """Sets alarms, and remembers durably which have run."""

    done: list[str] = durable(factory=list)

    async def set(self, name: str, delay_s: float) -> None:
        await self.alarms.set(name, timedelta(seconds=delay_s), payload=name)

    async def every(self, name: str, period_s: float) -> None:
        await self.alarms.set(name, every=timedelta(seconds=period_s), payload=name)

    async def alarm(self, alarm: AlarmInfo) -> None:
        app, scene = SCENE[-1]
        key = f"{self.id}:{alarm.name}"
        if alarm.payload != alarm.name:
            scene.problems.append(f"{key} came with {alarm.payload!r}")
        scene.runs.append((alarm.name, app.clock.elapsed_s()))
        with scene.run(key):
            self.done.append(alarm.name)
            await sleep(scene.run_s)
            if scene.failures[alarm.name]:
                scene.failures[alarm.name] -= 1
                raise ValueError(alarm.name)

    async def report(self) -> dict[str, Any]:
        alarms = [(alarm.name, alarm.dead, alarm.retry_count, alarm.error) for alarm in await self.alarms.list()]
        return {"done": self.done, "alarms": alarms}


async def setter(sleeper: Any, name: str, delay_s: float, told: set[str]) -> None:
    """Set an alarm until it is known to be set."""
    await sleep(delay_s / 4)
    try:
        await sleeper.set(name, delay_s)
    except (Ambiguous, SteadError):
        return
    told.add(name)


async def under_faults(seed: int, on: type[App] = TestApp) -> None:
    """Alarms, some of which fail a few times, while the process dies, the disk fills up, actors leave and the wall clock jumps."""
    chance, scene = Chance(seed), Scene()
    async with on.of(actors={"sleeper": Sleeper}, world=World(commit_s=0.05)) as app:
        SCENE[:] = [(app, scene)]
        sleeper = app.env.SLEEPER.get("one")
        told: set[str] = set()
        names = [f"{number}" for number in range(ALARMS)]
        for name in names:
            scene.failures[name] = max(0, chance.below(6) - 3)
        faults = [crashing(app, chance), failing(app, chance), evicting(app, chance, sleeper)]
        if seed % 2 and on is TestApp:
            faults.append(jumping(app, chance))
        async with beset_by(*faults):
            await together(*(setter(sleeper, name, chance.fraction(), told) for name in names))
            await sleep(0.5 * chance.fraction())
        await app.crash()
        await app.clock.advance(seconds=SETTLED_S + (JUMPS_S if on is TestApp else 0.0))
        report = await sleeper.report()
        done = Counter(report["done"])
        assert not scene.problems, scene.problems
        assert report["alarms"] == [], f"left over: {report['alarms']}"
        assert max(done.values(), default=1) == 1, f"the effect of an alarm is there twice: {done}"
        assert told <= set(done), f"lost: {told - set(done)}"
        assert set(done) <= {name for name, _ in scene.runs}


async def failing_for_good(seed: int, on: type[App] = TestApp) -> None:
    """An alarm that always fails, beside a sound one, with evictions in between and an actor that is busy now and then."""
    chance, scene = Chance(seed), Scene()
    async with on.of(actors={"sleeper": Sleeper}) as app:
        SCENE[:] = [(app, scene)]
        sleeper = app.env.SLEEPER.get("one")
        scene.failures["bad"] = 1_000
        await sleeper.set("bad", 1 + 10 * chance.fraction())
        await sleeper.every("good", 60)
        async with beset_by(evicting(app, chance, sleeper, pause_s=4)):
            await app.clock.advance(seconds=300)
        times = [at_s for name, at_s in scene.runs if name == "bad"]
        assert len(times) == 1 + RETRIES_MAX, f"it ran {len(times)} times"
        for number, (one_s, next_s) in enumerate(zip(times, times[1:], strict=False)):
            least_s = 2.0 * 2**number
            assert least_s <= next_s - one_s <= 1.25 * least_s + 1.5, f"retry {number + 1} came after {next_s - one_s} s"
        await app.crash()
        await app.clock.advance(seconds=60)
        report = await sleeper.report()
        assert ("bad", True, RETRIES_MAX, "ValueError: bad") in report["alarms"], f"not kept as dead: {report['alarms']}"
        assert report["done"].count("good") >= 5, "a recurring alarm stopped"
        assert "bad" not in report["done"], "a failed run left a trace"


async def jumps(seed: int) -> None:
    """The wall clock is set forward or back while an alarm waits."""
    chance, scene = Chance(seed), Scene()
    async with TestApp.of(actors={"sleeper": Sleeper}) as app:
        SCENE[:] = [(app, scene)]
        delay_s = 60 + 300 * chance.fraction()
        jump_s = (chance.below(2) * 2 - 1) * 400 * chance.fraction()
        await app.env.SLEEPER.get("one").set("a", delay_s)
        began_s = app.clock.elapsed_s()
        app.clock.jump(int(jump_s * 1000))
        await app.clock.advance(seconds=900)
        expected_s = max(0.0, delay_s - jump_s)
        assert len(scene.runs) == 1, f"it ran {len(scene.runs)} times"
        late_s = scene.runs[0][1] - began_s - expected_s
        assert -0.01 <= late_s <= LATE_S, f"it was {late_s} s late"


def test_an_alarm_is_never_lost() -> None:
    """Every alarm that was acknowledged has its effect exactly once, and none runs beside itself."""
    check(under_faults)


def test_a_failing_alarm_backs_off_and_is_kept() -> None:
    """It runs once and six times more, after 2, 4, 8 … seconds, and is then dead and visible; others go on."""
    check(failing_for_good)


def test_jumps_of_the_clock_move_alarms_and_lose_none() -> None:
    """An alarm runs once, when the wall clock says so, and at the next look at the index if a jump goes over its moment."""
    check(jumps)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P6"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the properties fail."""
    scenario = (
        failing_for_good if name in {"failures_not_counted", "dead_alarm_vanishes", "retries_without_backoff"} else under_faults
    )
    with sabotaged(name):
        find(scenario)
