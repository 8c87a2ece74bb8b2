"""What an idle socket costs in the runtime: `python tests/process/measure_sockets.py`, without the edge and its transports.

Sockets connect to one actor, which leaves memory; the growth of the process's resident memory (VmRSS) is divided by their number.
Some connect first, so that what is allocated once is not counted. With `--state` each carries a small one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
from pathlib import Path
from typing import Any

from stead import Actor, Request, Socket
from stead.clock import SystemClock, sleep
from stead.events import Frame, Handover
from stead.ids import Chance, named_id
from stead.runtime.runtime import Limits, Runtime
from stead.storage.memory import MemoryEngine, MemoryStore

BEFORE = 2_000
AT_ONCE = 200
POLL_S = 0.01


class Room(Actor):
    hibernate_after_s = 0.1
    sockets_max = 1_000_000

    async def on_connect(self, socket: Socket, request: Request) -> None:
        if "state" in request.query_params:
            socket.set_state({"name": "ada", "color": 7})


class Nowhere:
    """One wire for all: what a real one costs is the edge's to say."""

    def send(self, frame: Frame) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


def handover(number: int, query: str) -> Handover:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/parties/room/lobby",
        "raw_path": b"/parties/room/lobby",
        "query_string": f"_pk={number:032x}{query}".encode(),
        "headers": [],
    }
    return Handover(named_id("room", "lobby"), scope)


def rss_bytes() -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def measure(sockets: int, query: str) -> float:
    runtime = Runtime(
        actors={"room": Room},
        services={},
        clients={},
        engine=MemoryEngine(MemoryStore()),
        clock=SystemClock(),
        chance=Chance(),
        variables={},
        service_variables={},
        limits=Limits(resident_bytes_max=1 << 30, stop_grace_s=1.0),
    )
    await runtime.start()
    wire, receivers = Nowhere(), []

    async def connect(first: int, last: int) -> int:
        for number in range(first, last):
            receivers.append(runtime.open_socket(handover(number, query), wire))
            if number % AT_ONCE == 0:
                await sleep(0)
        while runtime.stats()["residents"]:
            await sleep(POLL_S)
        gc.collect()
        return rss_bytes()

    before_bytes = await connect(0, BEFORE)
    after_bytes = await connect(BEFORE, BEFORE + sockets)
    assert runtime.stats()["sockets"] == len(receivers) == BEFORE + sockets
    await runtime.abandon()
    return (after_bytes - before_bytes) / sockets


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of idle sockets in the runtime.")
    parser.add_argument("--sockets", type=int, default=20_000)
    parser.add_argument("--state", action="store_true")
    options = parser.parse_args()
    each = asyncio.run(measure(options.sockets, "&state" if options.state else ""))
    print(f"{each:,.0f} bytes for each of {options.sockets:,} idle sockets")


if __name__ == "__main__":
    main()
