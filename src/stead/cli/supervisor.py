"""The parent of `stead serve --workers N`: starts the workers, starts again those that die, and ends them all.

It never imports the application. A worker gets its job as the first line of its standard input, which stays open as its lifeline:
when it closes, the worker stops as at SIGTERM, so none outlives the parent, however that ends. The job holds secrets, which stand
on no command line that way. A byte on a pipe of its own says that a worker is ready.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import Callable, Sequence

from stead.cli.job import BOOT, EXIT_FAILED, WorkerJob
from stead.cli.waiting import wait_set
from stead.clock import sleep

RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0  # before a worker that died is started again; doubling while it dies young
YOUNG_S = 30.0  # a worker that lived longer was well
KILL_AFTER_S = 10.0  # past twice the shutdown's time, in which requests end first and then turns
_EXIT_SIGNALLED = 128

log = logging.getLogger("stead")


class Supervisor:
    """Keeps one process for each job. `on_ready` is told once, when every worker has said that it is ready."""

    def __init__(self, jobs: Sequence[WorkerJob], shutdown_timeout_s: float, on_ready: Callable[[], None]) -> None:
        self._jobs = jobs
        self._kill_after_s = 2 * shutdown_timeout_s + KILL_AFTER_S
        self._on_ready = on_ready
        self._unready = {job.index for job in jobs}
        self._is_ready = False
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Run until a signal, or until a worker cannot begin. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._keep(job))
        return self._exit_code

    def _signalled(self, number: int) -> None:
        if self._stopping.is_set():
            os._exit(_EXIT_SIGNALLED + number)  # the lifelines close with this process
        self._stopping.set()

    async def _keep(self, job: WorkerJob) -> None:
        """Have a process for `job` until the end."""
        loop, pause_s = asyncio.get_running_loop(), RESTART_S_MIN
        while not self._stopping.is_set():
            begun_s = loop.time()
            process = await self._start(job)
            code = await self._watch(process)
            if self._stopping.is_set():
                return
            if code == EXIT_FAILED and not self._is_ready:
                self._exit_code = EXIT_FAILED
                self._stopping.set()
                return
            pause_s = RESTART_S_MIN if loop.time() - begun_s > YOUNG_S else min(pause_s * 2, RESTART_S_MAX)
            log.error("worker %d ended with %s and is started again in %.1f s", job.index, _how(code), pause_s)
            await wait_set(self._stopping, pause_s)

    async def _start(self, job: WorkerJob) -> Process:
        ready, says_ready = os.pipe()
        asyncio.get_running_loop().add_reader(ready, self._hear, job, ready)
        try:
            # A session of its own: Ctrl-C in a terminal is the parent's to hear, which then ends the workers in order.
            process = await create_subprocess_exec(
                sys.executable, "-c", BOOT, str(says_ready), stdin=PIPE, pass_fds=(says_ready,), start_new_session=True
            )
        finally:
            os.close(says_ready)
        assert process.stdin is not None
        process.stdin.write(job.encode() + b"\n")
        return process

    def _hear(self, job: WorkerJob, ready: int) -> None:
        """A worker is ready, or will never be."""
        if os.read(ready, 1):
            self._unready.discard(job.index)
            if not self._unready and not self._is_ready:
                self._is_ready = True
                self._on_ready()
        asyncio.get_running_loop().remove_reader(ready)
        os.close(ready)

    async def _watch(self, process: Process) -> int:
        """Wait for the end of a worker, which comes when it dies or when everything stops. Returns its exit code."""
        try:
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._end_in_time(process))
                code = await process.wait()
                ending.cancel()
            return code
        finally:
            if process.returncode is None:
                process.kill()

    async def _end_in_time(self, process: Process) -> None:
        """Have a worker stop when everything does."""
        assert process.stdin is not None
        await self._stopping.wait()
        process.stdin.close()
        await sleep(self._kill_after_s)
        log.error("the worker with process %d does not stop and is killed", process.pid)
        process.kill()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
