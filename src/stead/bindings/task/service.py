"""The service around an application's `Task`: it runs one tick within the time limit and says how that ended."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from stead.api import Service, Task
from stead.bindings.task.run import Ending, Outcome, TaskTick
from stead.redaction import redacted

RUN_S_MAX = 300.0
ERROR_CHARS_MAX = 500  # of an error kept in the history; the log has it whole

_log = logging.getLogger("stead.task")


def task_service(unit: str, cls: type[Task]) -> type[Service]:
    """The service that runs the ticks of a task, an instance of `cls`."""
    return type(f"{cls.__name__}Service", (_TaskService,), {"unit": unit, "task_class": cls, "__module__": __name__})


class _TaskService(Service):
    unit: ClassVar[str]
    task_class: ClassVar[type[Task]]

    def __init__(self) -> None:
        cls = self.task_class
        self._task = cls.__new__(cls)
        self._task.env = self.env  # before __init__, which may want it
        cls.__init__(self._task)

    async def run(self, tick: TaskTick) -> Ending:
        """Run the task. What it raises is logged and told, never passed on."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        limit = asyncio.timeout(RUN_S_MAX)
        outcome, error = Outcome.SUCCEEDED, None
        try:
            async with limit:
                await self._task.run(tick)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - application code was called: whatever it raises, the next tick runs
            if limit.expired():
                outcome, error = Outcome.TIMED_OUT, f"it took longer than {RUN_S_MAX:g} s and was cancelled"
                _log.error("task %r: %s", self.unit, error)
            else:
                outcome, error = Outcome.FAILED, redacted(f"{type(exc).__name__}: {exc}")[:ERROR_CHARS_MAX]
                _log.error("task %r failed", self.unit, exc_info=exc)
        return Ending(outcome, round(loop.time() - started_s, 3), error)
