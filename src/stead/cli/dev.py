"""`stead dev`: an application, served and reloaded on every save.

The parent holds the socket and watches files; it never imports the application. A child (`cli.child`) serves. It is told to stop by
SIGTERM, which also ends an import, and is killed if it does not, so code that hangs cannot keep the next version from running.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from dataclasses import asdict, replace
from pathlib import Path

import typer
from watchfiles import Change, DefaultFilter, awatch

from stead.cli.child import EXIT_BROKEN, EXIT_FAILED, Job
from stead.cli.console import err
from stead.cli.listening import listen
from stead.cli.options import with_settings
from stead.node import Settings, manifest_path

SHUTDOWN_TIMEOUT_S = 2  # for requests under way at a reload or the end: who waits is a developer
KILL_AFTER_S = 2 * SHUTDOWN_TIMEOUT_S + 1  # requests, then turns, then the files
SOURCE_SUFFIXES = (".py", ".manifest", ".sql", ".html", ".jinja", ".j2", ".toml", ".yaml", ".yml", ".json", ".env")
GATHER_MS = 200  # saves that come together are one reload
# A child leaves Ctrl-C to its parent from its first line on: an interrupted import would print a traceback.
_BOOT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from stead.cli.child import main; main()"


@with_settings
def dev(place: Path, settings: Settings) -> None:
    """Serve an application, show its requests, and reload it on every save."""
    settings = replace(settings, shutdown_timeout_s=min(settings.shutdown_timeout_s, SHUTDOWN_TIMEOUT_S))
    with listen(settings.host, settings.port) as listener:
        code = asyncio.run(Reloader(place, settings, listener).run())
    raise typer.Exit(code)


class Child:
    """A serving process and the end of its lifeline."""

    def __init__(self, process: Process, lifeline: int) -> None:
        self.process = process
        self.is_told = False  # to stop
        self._lifeline = lifeline

    async def stop(self) -> None:
        """Let it finish what is under way, and wait until it has ended."""
        if not self.is_told:
            self.is_told = True
            os.close(self._lifeline)
            if self.process.returncode is None:
                self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), KILL_AFTER_S)
        except TimeoutError:
            err.print("the application does not stop and is killed", style="yellow")
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()


class Reloader:
    """Keeps one child serving the application as it was saved last."""

    def __init__(self, place: Path, settings: Settings, listener: socket.socket) -> None:
        self._place = place
        self._settings = settings
        self._listener = listener
        self._stop = asyncio.Event()
        self._has_served = False
        self._exit_code = 0
        self._child: Child | None = None

    async def run(self) -> int:
        """Serve until a signal, or until it turns out that nothing can be served. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        watched = manifest_path(self._place).parent.resolve()
        saved = awatch(
            watched,
            watch_filter=SavedFiles(self._settings.data.resolve()),
            debounce=GATHER_MS,
            stop_event=self._stop,
            raise_interrupt=False,
        )
        async with asyncio.TaskGroup() as tasks:
            self._child = await self._start(tasks)
            async for _ in saved:
                await self._child.stop()
                self._child = await self._start(tasks)
            await self._child.stop()
        return self._exit_code

    def _on_signal(self) -> None:
        if self._stop.is_set() and self._child is not None:
            self._child.kill()
        self._stop.set()

    async def _start(self, tasks: asyncio.TaskGroup) -> Child:
        lifeline, own_end = os.pipe()
        job = Job(self._place, asdict(self._settings), self._listener.fileno(), lifeline, self._has_served)
        process = await create_subprocess_exec(
            sys.executable, "-P", "-c", _BOOT, job.encode(), pass_fds=(self._listener.fileno(), lifeline)
        )
        os.close(lifeline)
        child = Child(process, own_end)
        tasks.create_task(self._watch_exit(child))
        return child

    async def _watch_exit(self, child: Child) -> None:
        code = await child.process.wait()
        if code == 0:
            self._has_served = True
        if child.is_told or self._stop.is_set():
            return
        if code == EXIT_FAILED:
            self._exit_code = code
            self._stop.set()
        else:
            ended = "" if code == EXIT_BROKEN else f"the server ended with exit code {code}; "
            err.print(f"{ended}waiting for the next save", style="yellow")


class SavedFiles(DefaultFilter):
    """What is worth a reload: sources and what they are likely to read once, not what they write."""

    def __init__(self, data: Path) -> None:
        super().__init__(ignore_dirs=(*DefaultFilter.ignore_dirs, ".stead"), ignore_paths=(data,))

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(SOURCE_SUFFIXES) and super().__call__(change, path)
