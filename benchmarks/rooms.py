"""W6: what rooms deliver, how long an echo takes, and what an open socket and a resident actor cost in memory.

Memory is the growth of the servers' resident memory by so many sockets or actors, on a server of its own that had some before: what
is allocated once is not theirs. All sockets of a room and all actors are of the same class, and an actor has stored one number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import exchange
from benchmarks.contenders import Contender
from benchmarks.load import LoadFailed
from benchmarks.report import Footprint, Report, Run
from benchmarks.server import Server
from benchmarks.sockets import SocketLoad, opened

SOCKETS = 100  # of the room in which one speaks
ROOMS = 20  # in which the idle sockets are
ACTORS_BEFORE, SOCKETS_BEFORE = 500, 200
SETTLE_S = 2.0  # until what was set free is given back
DELIVERIES, DELIVERIES_MANY, ECHO = "deliveries, one message under way", "deliveries, 16 under way", "echo"
IDLE_SOCKET, RESIDENT_ACTOR = "idle socket", "resident actor"


@dataclass(frozen=True)
class Talk:
    """One socket speaks, `sockets` hear it."""

    variant: str
    sockets: int
    under_way: int


TALKS = (Talk(DELIVERIES, SOCKETS, 1), Talk(DELIVERIES_MANY, SOCKETS, 16), Talk(ECHO, 1, 1))


@dataclass(frozen=True)
class RoomSize:
    """How long and how much."""

    seconds: int
    repeats: int
    sockets: int
    actors: int

    def steps(self) -> int:
        """How often `on_step` is called for a contender."""
        return self.repeats * len(TALKS) + 2


class RoomSession:
    """Fills a report with W6. `fresh` makes empty directories on the disk under test, `on_step` is told what comes next."""

    def __init__(
        self, size: RoomSize, report: Report, fresh: Callable[[str], AbstractContextManager[Path]], on_step: Callable[[str], None]
    ) -> None:
        self._size = size
        self._report = report
        self._fresh = fresh
        self._on_step = on_step

    def run(self, workload: str, contenders: Sequence[Contender]) -> None:
        with ExitStack() as stack:
            try:
                load = SocketLoad(stack.enter_context(self._fresh(f"{workload}-load")))
                servers = [
                    stack.enter_context(Server(contender, stack.enter_context(self._fresh(f"{workload}-{contender.name}"))))
                    for contender in contenders
                ]
            except LoadFailed as exc:
                self._report.notes.append(f"{workload} failed: {exc}")
                return
            for repeat in range(self._size.repeats):
                for talk in TALKS:
                    for server in servers:
                        self._on_step(f"{workload} {server.contender.name}: {talk.variant}")
                        self._report.runs.append(self._measure(workload, talk, server, load, repeat))
        for contender in contenders:
            for item, measure in ((IDLE_SOCKET, self._idle_sockets), (RESIDENT_ACTOR, self._resident_actors)):
                self._on_step(f"{workload} {contender.name}: memory of {item}s")
                with self._fresh(f"{workload}-{contender.name}") as data:
                    try:
                        with Server(contender, data) as server:
                            count, grown_bytes = measure(server)
                    except LoadFailed as exc:
                        self._report.notes.append(f"{workload} {contender.name}, memory of {item}s: {exc}")
                    else:
                        self._report.footprints.append(Footprint(workload, contender.name, item, count, grown_bytes))

    def _measure(self, workload: str, talk: Talk, server: Server, load: SocketLoad, repeat: int) -> Run:
        path = "/parties/main/talk"
        try:
            load.run(server.port, path, talk.sockets, talk.under_way, 1)
            used = server.usage()
            sample = load.run(server.port, path, talk.sockets, talk.under_way, self._size.seconds)
            after_use = server.usage()
        except LoadFailed as exc:
            fault = f"{exc} {server.ended()}".strip()
            return Run(workload, talk.variant, server.contender.name, repeat, 0, 0.0, 0.0, 0.0, fault=fault)
        return Run(
            workload,
            talk.variant,
            server.contender.name,
            repeat,
            sample.requests,
            sample.seconds,
            sample.p50_ms,
            sample.p99_ms,
            after_use.cpu_s - used.cpu_s,
            after_use.memory_peak_bytes,
            after_use.written_bytes - used.written_bytes,
        )

    def _idle_sockets(self, server: Server) -> tuple[int, int]:
        with opened(server.port, [f"/parties/main/room-{number % ROOMS}" for number in range(SOCKETS_BEFORE)]):
            before_bytes = settled_bytes(server)
            with opened(server.port, [f"/parties/main/room-{number % ROOMS}" for number in range(self._size.sockets)]):
                return self._size.sockets, settled_bytes(server) - before_bytes

    def _resident_actors(self, server: Server) -> tuple[int, int]:
        exchange(server.port, "POST", [f"/parties/main/before-{number}" for number in range(ACTORS_BEFORE)])
        before_bytes = settled_bytes(server)
        exchange(server.port, "POST", [f"/parties/main/actor-{number}" for number in range(self._size.actors)])
        return self._size.actors, settled_bytes(server) - before_bytes


def settled_bytes(server: Server) -> int:
    time.sleep(SETTLE_S)  # noqa: TID251 - for a real process, and nothing else runs here
    return server.usage().memory_bytes
