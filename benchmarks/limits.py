"""What no server on this machine can pass: the flushes of its disk, and the load generators themselves."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from benchmarks.client import exchange
from benchmarks.compiling import compile_c
from benchmarks.contenders import HELLO, ROOM, SERVERS, Command, Contender
from benchmarks.load import Load, run_load
from benchmarks.report import Limits
from benchmarks.rooms import SOCKETS
from benchmarks.server import Server
from benchmarks.sockets import SocketLoad

PAGE = b"\xa5" * 4096  # the least that a commit writes
LOG_PAGES = 1000  # SQLite's log begins anew after as many
CLIENT_REQUESTS = 20_000


def measure_limits(data: Path, seconds: int) -> Limits:
    """Uses `data`, which must lie on the disk that the contenders use."""
    data.mkdir(parents=True, exist_ok=True)
    appends = measure_flushes(data / "flushed", seconds, pages_max=None)
    rewrites = measure_flushes(data / "flushed", seconds, pages_max=LOG_PAGES)
    hello, room = _smallest(HELLO, "hello.c", data), _smallest(ROOM, "room.c", data)
    if hello is None or room is None:
        return Limits(appends, rewrites, None, None)
    with Server(hello, data) as server:
        sample = run_load(server.port, Load("GET", "/", 0, 64), seconds)
        asked = exchange(server.port, "GET", ["/"] * CLIENT_REQUESTS)
    with Server(room, data) as server:
        heard = SocketLoad(data).run(server.port, "/parties/main/limit", SOCKETS, 16, seconds)
    return Limits(appends, rewrites, sample.rate, CLIENT_REQUESTS / asked.seconds, heard.rate)


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


def _smallest(kind: str, source: str, data: Path) -> Contender | None:
    """The smallest server of a kind, None without a C compiler."""
    binary = compile_c(SERVERS / source, data)
    if binary is None:
        return None
    return Contender(
        source, frozenset({kind}), lambda place: [Command([str(binary), str(place.port)], place.port)], lambda: "", lambda: ""
    )
