"""A `stead serve` of one's own, and what a test may need of the machine."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from stead.admin import ServerAddress, find_server
from tests.lacking import lack

LIMIT_S = 60.0  # for whatever a process is waited for: many times what it takes, so that a loaded machine is no failure
STEAD = ("-c", "from stead.cli import main; main()")


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[bytes]  # what was started: a tracer is not the server itself
    address: ServerAddress
    data: Path
    errors: Path  # what it writes to standard error

    @property
    def port(self) -> int:
        return httpx.URL(self.address.url).port or 0

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address.url, timeout=LIMIT_S, verify=False)  # else it reads certificates first: 20 ms

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, over a connection of its own; `more` is what httpx takes."""
        with self.client() as client:
            return client.request(method, path, **more)

    def stats(self) -> dict[str, int]:
        """The node's counters."""
        headers = {"authorization": f"Bearer {self.address.token}"}
        answer: dict[str, int] = self.ask("GET", "/_stead/admin/stats", headers=headers).json()
        return answer

    def end(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        os.kill(self.address.pid, number)
        return self.process.wait(LIMIT_S)


class Serve(Protocol):
    """`with serve(place, data, "--flag", …) as server:` kills the server at the end if it has not ended by itself."""

    def __call__(
        self, place: Path, data: Path, *flags: str, tracer: Sequence[str] = (), launcher: Sequence[str] = STEAD
    ) -> AbstractContextManager[Server]: ...


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}


@contextmanager
def serving(place: Path, data: Path, *flags: str, tracer: Sequence[str] = (), launcher: Sequence[str] = STEAD) -> Iterator[Server]:
    errors = data.with_name(f"{data.name}.stderr")
    arguments = [*tracer, sys.executable, *launcher, "serve", str(place), "--port", "0", "--data", str(data), *flags]
    with errors.open("ab") as file:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=file, env=environment())
    address = None
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], LIMIT_S)[0], "the server is not ready in time"
        assert process.stdout.readline().startswith(b"ready "), errors.read_text()
        address = find_server(data)
        assert address is not None
        yield Server(process, address, data, errors)
    finally:
        if process.poll() is None:
            if address is not None and address.pid != process.pid:  # a tracer would end and leave its server behind
                os.kill(address.pid, signal.SIGKILL)
            else:
                process.kill()
        process.communicate(timeout=LIMIT_S)


@pytest.fixture(scope="session")
def serve() -> Serve:
    return serving


def refused(place: Path, data: Path) -> str:
    arguments = [sys.executable, *STEAD, "serve", str(place), "--port", "0", "--data", str(data)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S, env=environment(), check=False)
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="session")
def refusal() -> Callable[[Path, Path], str]:
    """What `stead serve` of an application on a data directory says when it does not start."""
    return refused


@pytest.fixture(scope="session")
def boxes() -> Path:
    """The application of boxes."""
    return Path(__file__).with_name("app")


@pytest.fixture(scope="session")
def strace() -> str:
    """The path of strace, where it may trace. In CI its absence is a failure."""
    path = shutil.which("strace")
    if path is None:
        lack("strace is not installed")
    if subprocess.run([path, "-f", "--seccomp-bpf", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        lack("strace may not trace processes here")
    return path
