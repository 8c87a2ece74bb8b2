"""What no server on this machine can pass: the flushes of its disk, and the load generators themselves."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.client import exchange
from benchmarks.contenders import HELLO_ONLY, SERVERS, Command, Contender
from benchmarks.load import Load, run_load
from benchmarks.report import Limits
from benchmarks.server import Server

PAGE = b"\xa5" * 4096  # the least that a commit writes
LOG_PAGES = 1000  # SQLite's log begins anew after as many
CLIENT_REQUESTS = 20_000


def measure_limits(data: Path, seconds: int) -> Limits:
    """Uses `data`, which must lie on the disk that the contenders use."""
    data.mkdir(parents=True, exist_ok=True)
    appends = measure_flushes(data / "flushed", seconds, pages_max=None)
    rewrites = measure_flushes(data / "flushed", seconds, pages_max=LOG_PAGES)
    binary = _compile_hello(data)
    if binary is None:
        return Limits(appends, rewrites, None, None)
    hello = Contender(
        "hello.c", HELLO_ONLY, lambda place: [Command([str(binary), str(place.port)], place.port)], lambda: "", lambda: ""
    )
    with Server(hello, data) as server:
        sample = run_load(server.port, Load("GET", "/", 0, 64), seconds)
        asked = exchange(server.port, "GET", ["/"] * CLIENT_REQUESTS)
    return Limits(appends, rewrites, sample.requests / sample.seconds, CLIENT_REQUESTS / asked.seconds)


def measure_flushes(path: Path, seconds: float, pages_max: int | None) -> float:
    """Writes of one page, each followed by fdatasync, a second. With `pages_max` the file has that length from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, PAGE * (pages_max or 0))
        os.fsync(descriptor)
        begun = time.perf_counter()
        for count in itertools.count():
            if time.perf_counter() - begun >= seconds:
                return count / seconds
            os.pwrite(descriptor, PAGE, len(PAGE) * (count if pages_max is None else count % pages_max))
            os.fdatasync(descriptor)
        raise AssertionError("a count has no end")
    finally:
        os.close(descriptor)
        path.unlink()


def _compile_hello(directory: Path) -> Path | None:
    """The smallest server, None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    binary = directory / "hello"
    subprocess.run([compiler, "-O2", "-o", str(binary), str(SERVERS / "hello.c")], check=True)
    return binary
