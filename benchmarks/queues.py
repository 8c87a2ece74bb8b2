"""`python -m benchmarks.queues`: messages sent and dealt with, in Stead's queues and in Redis streams.

Both are asked as a Python program would ask them: Stead's queue by code that runs in the node, Redis over loopback by redis-py with
hiredis, commands of a batch in one pipeline. A message counts as sent when it is on the disk (a commit; `appendfsync always`), and
as delivered when that it was acknowledged is on the disk, too. Sends and deliveries are measured one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import HERE
from benchmarks.server import free_ports
from stead import Batch, Observer
from stead.bindings import Binding, Queue, QueueSettings, observer_service, queue_class
from stead.clock import SystemClock, sleep
from stead.ids import Chance
from stead.manifest import Application
from stead.node import LoadedApplication, Node, Settings
from stead.storage.sqlite import SqliteEngine

BATCHES = (1, 10, 100)
CLIENTS = 8  # senders, and consumers, at a time
ROUNDS = 400  # batches of each client and repeat, at most
MESSAGES_MAX = 40_000  # of one repeat: below what a shard holds
REPEATS = 3
UP_POLLS, UP_POLL_S = 500, 0.01  # while Redis starts
BODY = {"to": "ann@example.com", "subject": "Thank you", "order": 12345, "lines": ["tea", "cup"]}

Rates = tuple[float, float]
"""Messages sent, and delivered, a second."""


class Sink(Observer):
    """Has nothing to do with what it gets but to count it."""

    seen = 0
    expected = 0
    all_seen: asyncio.Event

    async def process_batch(self, batch: Batch) -> None:
        Sink.seen += len(batch.messages)
        if Sink.seen >= Sink.expected:
            Sink.all_seen.set()


def rounds_of(batch: int, quick: bool) -> int:
    return max(1, min(ROUNDS, MESSAGES_MAX // batch // CLIENTS) // (8 if quick else 1))


async def in_parallel(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """How long it takes CLIENTS times at once."""
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(work())
    return time.perf_counter() - began_s


async def stead(batch: int, rounds: int, data: Path) -> Rates:
    settings = QueueSettings("jobs", "sink.observer", CLIENTS, batch, max_batch_timeout_s=0.001)
    jobs = Binding(queue_class(settings), Queue, {"sink.observer": observer_service(Sink, "jobs")})
    clock = SystemClock()
    engine = SqliteEngine.open(data, clock)
    node = Node(
        LoadedApplication(data, Application(name="bench"), {}, {}, bindings={"jobs": jobs}),
        engine,
        Settings(data=data),
        clock,
        Chance(),
    )
    await node.start()
    queue: Queue = node.env.JOBS
    total = batch * rounds * CLIENTS
    Sink.seen, Sink.expected, Sink.all_seen = 0, total, asyncio.Event()
    bodies = [BODY] * batch

    async def send() -> None:
        for _ in range(rounds):
            await queue.send_batch(bodies)

    try:
        await queue.pause()
        sending_s = await in_parallel(send)
        began_s = time.perf_counter()
        await queue.resume()
        await Sink.all_seen.wait()
        while (await queue.status()).messages:  # the last acknowledgements are on their way
            await sleep(0)
        return total / sending_s, total / (time.perf_counter() - began_s)
    finally:
        await node.close()
        await engine.close()


async def redis(batch: int, rounds: int, data: Path) -> Rates:
    async with redis_server(data) as client:
        total = batch * rounds * CLIENTS
        body = msgspec.json.encode(BODY)

        async def send() -> None:
            for _ in range(rounds):
                pipeline = client.pipeline(transaction=False)
                for _ in range(batch):
                    pipeline.xadd("jobs", {"body": body})
                await pipeline.execute()

        async def consume() -> None:
            name = str(id(asyncio.current_task()))
            done: list[bytes] = []
            while True:
                pipeline = client.pipeline(transaction=False)
                if done:
                    pipeline.xack("jobs", "group", *done)
                pipeline.xreadgroup("group", name, {"jobs": ">"}, count=batch)
                taken = (await pipeline.execute())[-1]
                done = [identity for _, entries in taken for identity, fields in entries if msgspec.json.decode(fields[b"body"])]
                if not done:
                    return

        await client.xgroup_create("jobs", "group", id="0", mkstream=True)
        sending_s = await in_parallel(send)
        consuming_s = await in_parallel(consume)
        assert (await client.xpending("jobs", "group"))["pending"] == 0
        return total / sending_s, total / consuming_s


@asynccontextmanager
async def redis_server(data: Path) -> AsyncIterator[Any]:
    """A client of a Redis that flushes every command."""
    from redis.asyncio import Redis  # noqa: PLC0415 - installed by `make bench` only
    from redis.exceptions import ConnectionError as NotUp  # noqa: PLC0415

    (port,) = free_ports(1)
    line = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", ""]
    with (data / "log").open("wb") as log:
        server = subprocess.Popen([*line, "--appendonly", "yes", "--appendfsync", "always"], stdout=log, stderr=log)
    try:
        client = Redis(port=port)
        for _ in range(UP_POLLS):
            try:
                await client.ping()
                break
            except NotUp:
                await sleep(UP_POLL_S)
        yield client
        await client.aclose()
    finally:
        server.terminate()
        server.wait()


def redis_missing() -> str:
    absent = [module for module in ("redis", "hiredis") if importlib.util.find_spec(module) is None]
    absent += [] if shutil.which("redis-server") else ["redis-server"]
    return f"not compared with Redis: {', '.join(absent)} missing" if absent else ""


def measure(contender: Callable[[int, int, Path], Coroutine[Any, Any, Rates]], batch: int, quick: bool) -> Rates:
    """The medians of some repeats, each on new data on the disk that the other benchmarks use."""
    place = HERE / "results" / "data"
    place.mkdir(parents=True, exist_ok=True)
    rates: list[Rates] = []
    for _ in range(1 if quick else REPEATS):
        with TemporaryDirectory(prefix="queues-", dir=place) as data:
            rates.append(uvloop.run(contender(batch, rounds_of(batch, quick), Path(data))))
    return statistics.median(sent for sent, _ in rates), statistics.median(delivered for _, delivered in rates)


def ratio(own: float, other: float | None) -> str:
    return "" if other is None else f"{own / other:.2f} ×"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description="Queues beside Redis streams.")
    parser.add_argument("--quick", action="store_true", help="one short repeat: shows that it works, not how fast")
    quick = parser.parse_args().quick
    console, missing = Console(), redis_missing()
    if missing:
        console.print(missing, style="yellow")
    table = Table(title=f"durable messages a second, {CLIENTS} clients; the ratio is Stead to Redis")
    for heading in ("batch", "stead, sent", "redis, sent", "ratio", "stead, delivered", "redis, delivered", "ratio"):
        table.add_column(heading, justify="right")
    for batch in BATCHES:
        own = measure(stead, batch, quick)
        other = (None, None) if missing else measure(redis, batch, quick)
        cells = [
            cell
            for mine, theirs in zip(own, other, strict=True)
            for cell in (f"{mine:,.0f}", "" if theirs is None else f"{theirs:,.0f}", ratio(mine, theirs))
        ]
        table.add_row(str(batch), *cells)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
