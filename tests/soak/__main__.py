"""Rooms under steady load, with every message counted: `python -m tests.soak`, or `make soak`.

Each socket of `examples/parties` sends ten messages a second, by the clock and not by the answers. One of them in as many as a room
has sockets is a broadcast, the others are echoed: so a socket is sent ten broadcasts and almost ten echoes a second. A latency is
counted from the moment at which the message was due, so neither a slow server nor a slow client hides what it causes.

What must hold, or the exit code is 1: every message is answered, once and in order; every broadcast reaches each socket of its
room, once, in an order that is the same for all of them; no connection ends; the server's resident memory is in the last quarter of
the load what it was in the second. Client and server share the machine, so latencies are of both together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from stead.clock import SystemClock, sleep
from tests.process.conftest import Server, serving
from tests.soak.member import Load, Member

PARTIES = Path(__file__).parents[2] / "examples" / "parties"
LEAD_S = 0.5  # from the last connection to the first message
DRAIN_S = 30.0  # for what is under way when the last message is sent
SAMPLE_S = 0.5
GROWTH_MAX = 0.05  # of the memory, from the second quarter to the last one
GROWTH_MIB_MIN = 8.0  # less says nothing: allocators keep what a burst has taken
FAULTS_SHOWN_MAX = 20
CLOCK = SystemClock()  # the loop's own counts milliseconds


@dataclass(frozen=True)
class Outcome:
    """What a run has shown. The server's memory is that with all connected, in the load's second quarter, and in its last one."""

    load: Load
    received: int
    echo_ms: tuple[float, float]  # p50 and p99
    broadcast_ms: tuple[float, float]
    memory_mib: tuple[float, float, float]
    faults: list[str]


async def soak(load: Load, server: Server) -> Outcome:
    rooms = [[Member(load, room, number) for number in range(load.room_size)] for room in range(load.rooms)]
    members = [member for room in rooms for member in room]
    connections = [await _connection(server, member) for member in members]
    before, samples = _memory_mib(server), list[float]()
    begin_s = CLOCK.elapsed_s() + LEAD_S
    for member in members:
        member.schedule(begin_s)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(server, samples))
        ends = [
            tasks.create_task(_receive(each, member, rooms[member.room])) for each, member in zip(connections, members, strict=True)
        ]
        await asyncio.wait([tasks.create_task(_send(each, member)) for each, member in zip(connections, members, strict=True)])
        watching.cancel()
        _, late = await asyncio.wait(ends, timeout=DRAIN_S)
        for end in late:
            end.cancel()
    for connection in connections:
        await connection.close()
    memory = before, _quarter(samples, 1), _quarter(samples, 3)
    return Outcome(
        load,
        sum(len(member.echoes) + len(member.heard) for member in members),
        _percentiles_ms([latency for member in members for latency in member.echo_s]),
        _percentiles_ms([latency for member in members for latency in member.broadcast_s]),
        memory,
        [fault for member in members for fault in member.faults(rooms[member.room])] + growth(memory),
    )


async def _connection(server: Server, member: Member) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/parties/main/room-{member.room}?_pk={member.number}"
    return await connect(url, compression=None, max_queue=None, proxy=None)


async def _send(connection: ClientConnection, member: Member) -> None:
    try:
        for message, due_s in enumerate(member.due_s):
            await sleep(max(0.0, due_s - CLOCK.elapsed_s()))
            await connection.send(member.text(message))
    except ConnectionClosed as exc:
        member.end = str(exc)


async def _receive(connection: ClientConnection, member: Member, room: Sequence[Member]) -> None:
    try:
        for _ in range(member.wanted()):
            member.take(await connection.recv(), room, CLOCK.elapsed_s())
    except ConnectionClosed as exc:
        member.end = str(exc)


async def _watch(server: Server, samples: list[float]) -> None:
    while True:
        samples.append(_memory_mib(server))
        await sleep(SAMPLE_S)


def _memory_mib(server: Server) -> float:
    status = Path(f"/proc/{server.address.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _quarter(samples: Sequence[float], number: int) -> float:
    size = len(samples) // 4
    return statistics.median(samples[number * size : (number + 1) * size])


def _percentiles_ms(latencies_s: Sequence[float]) -> tuple[float, float]:
    if len(latencies_s) < 2:
        return float("nan"), float("nan")
    cuts = statistics.quantiles(latencies_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def growth(memory_mib: tuple[float, float, float]) -> list[str]:
    """What is wrong with the server's memory."""
    _, early, late = memory_mib
    return [f"memory grew from {early:.1f} to {late:.1f} MiB"] if late - early > max(GROWTH_MIB_MIN, GROWTH_MAX * early) else []


def show(outcome: Outcome) -> None:
    load = outcome.load
    table = Table(title=f"{load.sockets} sockets in {load.rooms} rooms, {load.rate:g} messages a second each, {load.seconds:g} s")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row("messages to the server · from it", f"{load.sockets * load.messages:,} · {outcome.received:,}")
    table.add_row("echo, p50 · p99", " · ".join(f"{latency:.1f}" for latency in outcome.echo_ms) + " ms")
    table.add_row("broadcast, p50 · p99", " · ".join(f"{latency:.1f}" for latency in outcome.broadcast_ms) + " ms")
    table.add_row("server's memory: idle · early · late", " · ".join(f"{size:.1f}" for size in outcome.memory_mib) + " MiB")
    table.add_row("broken promises", str(len(outcome.faults)))
    console = Console()
    console.print(table)
    for fault in outcome.faults[:FAULTS_SHOWN_MAX]:
        console.print(fault, style="red")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--sockets", type=int, default=Load.sockets)
    parser.add_argument("--rooms", type=int, default=Load.rooms)
    parser.add_argument("--seconds", type=float, default=Load.seconds)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args()
    load = Load(options.sockets, options.rooms, seconds=options.seconds)
    with tempfile.TemporaryDirectory(prefix="stead-soak-") as place, serving(PARTIES, Path(place) / "data") as server:
        outcome = uvloop.run(soak(load, server))
    if options.json:
        sys.stdout.write(json.dumps(asdict(outcome)))
    else:
        show(outcome)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
