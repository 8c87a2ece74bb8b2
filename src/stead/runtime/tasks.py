"""The owner of a node's tasks: none is forgotten, none outlives the node, and a failure is never silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

CANCEL_S = 1.0  # what a cancelled task gets to clean up in before it is cancelled again
CANCELS_MAX = 10  # of a task that refuses to end

log = logging.getLogger("stead")


class Tasks:
    """Unlike a `TaskGroup` one failing task leaves the others alone: they belong to different users."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.base = Context()  # each task runs in a copy of it, so that nothing of its starter's leaks in
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` until it ends, or until `close`."""
        task = self._loop.create_task(work, context=self.base.copy())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def start_worker(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """`start` without a callback at the end, which the hot path saves: the work ends with `end_worker`."""
        task = self._loop.create_task(work, context=self.base.copy())
        self._tasks.add(task)
        return task

    def end_worker(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended: again if it swallows that, and not for ever."""
        own = asyncio.current_task()
        for _ in range(CANCELS_MAX):
            tasks = [task for task in self._tasks if task is not own and not task.done()]  # a worker may end before it begins
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CANCEL_S)
        log.error("%d tasks do not end although they were cancelled, and are left behind", len(tasks))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed: %s", error, exc_info=error)
