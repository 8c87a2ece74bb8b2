"""What other units and operators see of a task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from stead.api import Env, Namespace
from stead.bindings.task.actor import HISTORY, RUNS_KEPT, SCHEDULE, TaskSettings
from stead.bindings.task.run import TaskRun
from stead.errors import Invalid
from stead.logic.recurrence import next_cron_ms


class TaskStatus(msgspec.Struct, frozen=True):
    """When a task runs, and how it went last. `next_time` is in UTC."""

    cron: str
    timezone: str
    next_time: datetime
    is_running: bool
    last: TaskRun | None


class ScheduledTask:
    """`run = await env.NIGHTLY.run()`."""

    def __init__(self, namespace: Namespace[Any], env: Env, settings: TaskSettings) -> None:
        self._namespace = namespace
        self._env = env
        self._settings = settings

    async def run(self) -> TaskRun:
        """Run it now, after a run that is under way, and wait for its end. What it raises is in `outcome` and `error`."""
        run: TaskRun = await self._namespace.get(SCHEDULE).run_now()
        return run

    async def status(self) -> TaskStatus:
        settings = self._settings
        next_ms = next_cron_ms(settings.cron, round(self._env.now().timestamp() * 1000), settings.timezone)
        last = next(iter(await self.history(1)), None)
        is_running = last is not None and last.outcome is None
        return TaskStatus(settings.cron, settings.timezone, datetime.fromtimestamp(next_ms / 1000, UTC), is_running, last)

    async def history(self, limit: int = RUNS_KEPT) -> list[TaskRun]:
        """The last runs, at most 100, the newest first; the first one may be under way."""
        if not 0 < limit <= RUNS_KEPT:
            raise Invalid(f"limit must be 1 to {RUNS_KEPT}, got {limit}")
        runs: list[TaskRun] = await self.history_actor.runs(limit)
        return runs

    async def start(self) -> None:
        """Have the schedule set. The node does this when it starts."""
        await self._namespace.get(SCHEDULE).plan()

    @property
    def history_actor(self) -> Any:
        return self._namespace.get(HISTORY)
