"""A contender while it runs: its processes on the servers' core, ready when it answers, stopped by pid.

The processes get a session of their own, so that Ctrl-C reaches the driver alone, which then stops them in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.contenders import Command, Contender, Place
from benchmarks.cores import SERVER_CORE
from benchmarks.load import LoadFailed
from benchmarks.measures import Usage, count_flushes, descent, trace_prefix, usage_of

READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.001  # a start is measured, so the poll must not be what takes the time
STOP_TIMEOUT_S = 30.0
LOG_SHOWN_CHARACTERS = 1000
GREETING = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on at the moment, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in sockets]


class Server:
    """Started by `with`; `start_s` is the time from the first process to the first answer."""

    def __init__(self, contender: Contender, data: Path, *, traced: bool = False) -> None:
        data.mkdir(parents=True, exist_ok=True)
        port, store_port = free_ports(2)
        self.contender = contender
        self.port = port
        self.start_s = 0.0
        self._place = Place(data, port, store_port)
        self._traced = traced
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        started = time.perf_counter()
        commands = self.contender.commands(self._place)
        try:
            for number, command in enumerate(commands):
                self._processes.append(self._spawn(command, number))
                self._wait_up(command, is_last=command is commands[-1])
        except BaseException:
            self.kill()
            raise
        self.start_s = time.perf_counter() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self.kill()
        self._processes.clear()

    def kill(self) -> None:
        """End every process at once, without a chance to write anything more."""
        for process in self._processes:
            if process.poll() is None:
                for pid in descent(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()

    @property
    def pid(self) -> int:
        """Of the process that answers."""
        return self._processes[-1].pid

    @property
    def store_port(self) -> int:
        return self._place.store_port

    @property
    def dsn(self) -> str:
        return self._place.dsn

    def usage(self, *, of_store: bool = False) -> Usage:
        """Of all processes, or of the database's alone."""
        commands = self.contender.commands(self._place)
        chosen = zip(self._processes, commands, strict=True)
        return usage_of(process.pid for process, command in chosen if not of_store or command.port == self.store_port)

    def ended(self) -> str:
        """How the server ended and what it said last, "" while all its processes run."""
        codes = [str(process.returncode) for process in self._processes if process.poll() is not None]
        return f"ended with {', '.join(codes)}; its log ends: {self._log_end()}" if codes else ""

    def flushes(self) -> int:
        """How many so far, of a server started with `traced`."""
        return sum(count_flushes(self._trace(number).read_text()) for number in range(len(self._processes)))

    def _log_end(self) -> str:
        return (self._place.data / "log").read_text(errors="replace")[-LOG_SHOWN_CHARACTERS:]

    def _trace(self, number: int) -> Path:
        return self._place.data / f"flushes.{number}"

    def _spawn(self, command: Command, number: int) -> subprocess.Popen[bytes]:
        prefix = ["taskset", "-c", str(SERVER_CORE)]
        if self._traced:
            prefix += trace_prefix(self._trace(number))
        with (self._place.data / "log").open("ab") as log:
            return subprocess.Popen(
                [*prefix, *command.line],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **command.environ},
                start_new_session=True,
            )

    def _wait_up(self, command: Command, *, is_last: bool) -> None:
        deadline = time.perf_counter() + READY_TIMEOUT_S
        while not (command.is_up() if command.is_up else _is_up(command.port, answers=is_last)):
            ended = self.ended()
            if ended or time.perf_counter() > deadline:
                late = f"was not ready within {READY_TIMEOUT_S:.0f} s; its log ends: {self._log_end()}"
                raise LoadFailed(f"{self.contender.name} {ended or late}")
            time.sleep(READY_POLL_S)  # noqa: TID251 - waits for a real process, and nothing else runs here


def _is_up(port: int, *, answers: bool) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), READY_TIMEOUT_S) as connection:
            if not answers:
                return True
            connection.sendall(GREETING)
            return b" 200 " in connection.recv(4096).split(b"\r\n", 1)[0]
    except OSError:
        return False
