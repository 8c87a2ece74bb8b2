"""The two actors of a task. `schedule` has the alarm and runs the task; `history` keeps how the last runs went.

A run is a turn of `schedule`, so nothing runs a task beside itself; and `history` answers meanwhile.

**Ticks.** The recurring alarm is at its next occurrence only when the run's turn has committed. A tick that comes due during a run,
or while no process ran, therefore happens once, afterwards, for the first time that was missed. A process that dies in the
middle leaves the alarm where it was, so the tick happens after the start; the beginnings that `history` knows of bound how often.

**Failure.** What a task raises is an outcome. A run that could not be told of (the turn was ended from outside) is not tried again
either: the retry of its alarm finds that it has begun.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from stead.api import Actor, AlarmInfo, durable, on_alarm, reads
from stead.bindings.task.run import Ending, Outcome, TaskRun, TaskTick, Trigger
from stead.bindings.task.service import RUN_S_MAX
from stead.errors import Invalid
from stead.ids import binding_name

if TYPE_CHECKING:
    from stead.bindings.task.client import ScheduledTask

SCHEDULE, HISTORY = "schedule", "history"  # the actors' names
RUNS_KEPT = 100
BEGINNINGS_MAX = 3  # of one tick: a run that ends the process every time is given up
_TICK = "tick"
_RUNS = "run:"


class TaskSettings(msgspec.Struct, frozen=True):
    """When a task runs, and the service that runs it."""

    cron: str
    timezone: str
    service: str


class TaskActor(Actor):
    settings: ClassVar[TaskSettings]
    turn_limit_s = RUN_S_MAX + 30  # the service ends a run before; this ends one that does not let itself be ended

    last_number: int = durable(0)

    async def on_start(self) -> None:
        self._is_running = False

    # -- the schedule --------------------------------------------------------------------------------------------------------------

    async def plan(self) -> None:
        """Have the alarm set as the manifest says, and say of a run that a dead process left behind that it was interrupted."""
        await self._history.close_open()
        alarm = await self.alarms.get(_TICK)
        settings = self.settings
        if alarm is None or alarm.dead or (alarm.cron, alarm.timezone) != (settings.cron, settings.timezone):
            await self.alarms.set(_TICK, cron=settings.cron, timezone=settings.timezone)

    async def run_now(self) -> TaskRun:
        """Run the task when no other run of it is under way."""
        if self._is_running:
            raise Invalid(f"the task {self.id.unit!r} cannot run itself: it would wait for its own end")
        run = await self._history.begin(Trigger.MANUAL, self.env.now(), False)
        assert run is not None, "a manual run happens once"
        return await self._run(run)

    @on_alarm(_TICK)
    async def _tick(self, alarm: AlarmInfo) -> None:
        run = await self._history.begin(Trigger.CRON, alarm.scheduled_time, alarm.is_retry)
        if run is not None:
            await self._run(run)

    async def _run(self, run: TaskRun) -> TaskRun:
        self._is_running = True
        try:
            service = getattr(self.env, binding_name(self.settings.service))
            ending = await service.run(TaskTick(self.settings.cron, run.scheduled_time))
        finally:
            self._is_running = False
        await self._history.end(run.number, ending)
        return run.ended(ending)

    @property
    def _history(self) -> Any:
        client: ScheduledTask = getattr(self.env, binding_name(self.id.unit))
        return client.history_actor

    # -- the history ---------------------------------------------------------------------------------------------------------------

    async def begin(self, trigger: Trigger, scheduled_time: datetime, is_retry: bool) -> TaskRun | None:
        """Note that a run begins; None if it must not: its tick has been run, or was given a chance too often."""
        await self.close_open()
        if trigger is Trigger.CRON:
            same = [run for run in await self._runs() if run.trigger is Trigger.CRON and run.scheduled_time == scheduled_time]
            was_run = any(run.outcome is not Outcome.INTERRUPTED for run in same)
            if was_run or len(same) >= BEGINNINGS_MAX or (is_retry and same):
                return None
        self.last_number += 1
        run = TaskRun(self.last_number, trigger, scheduled_time, self.env.now())
        await self.storage.put(_key(run.number), run)
        await self.storage.delete(_key(run.number - RUNS_KEPT))
        return run

    async def end(self, number: int, ending: Ending) -> None:
        run = await self.storage.get(_key(number), type=TaskRun)
        if run is not None:
            await self.storage.put(_key(number), run.ended(ending))

    async def close_open(self) -> None:
        """Nothing runs now: what is not noted as ended was interrupted."""
        last = await self.storage.get(_key(self.last_number), type=TaskRun)
        if last is not None and last.outcome is None:
            await self.end(
                last.number, Ending(Outcome.INTERRUPTED, error="the process ended, or the turn was ended, before it did")
            )

    @reads
    async def runs(self, limit: int) -> list[TaskRun]:
        """The last runs, the newest first."""
        return await self._runs(limit)

    async def _runs(self, limit: int = RUNS_KEPT) -> list[TaskRun]:
        rows = await self.storage.list(_RUNS, reverse=True, limit=limit)
        return [msgspec.convert(row, TaskRun) for row in rows.values()]


def schedule_class(settings: TaskSettings) -> type[Actor]:
    """The class of the actors of one task."""
    return type("TaskActor", (TaskActor,), {"settings": settings, "__module__": __name__})


def _key(number: int) -> str:
    return f"{_RUNS}{number:012}"
