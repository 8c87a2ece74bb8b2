"""W6: what rooms deliver, how long an echo takes, and what an open socket and a resident actor cost in memory.

Memory is the growth of the servers' resident memory by so many sockets or actors, on a server of its own that had some before: what
is allocated once is not theirs. All sockets of a room and all actors are of the same class, and an actor has stored one number.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.bench import Bench, Trial
from benchmarks.client import exchange
from benchmarks.contenders import Contender
from benchmarks.load import LoadFailed
from benchmarks.report import Footprint, Run
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


class RoomSession:
    """Fills a report with W6, which weighs so many idle sockets and resident actors."""

    def __init__(self, bench: Bench, sockets: int, actors: int) -> None:
        self._bench = bench
        self._sockets = sockets
        self._actors = actors

    def run(self, workload: str, contenders: Sequence[Contender]) -> None:
        with ExitStack() as stack:
            try:
                load = SocketLoad(stack.enter_context(self._bench.fresh(f"{workload}-load")))
                servers = [
                    stack.enter_context(Server(contender, stack.enter_context(self._bench.fresh(f"{workload}-{contender.name}"))))
                    for contender in contenders
                ]
            except LoadFailed as exc:
                self._bench.report.notes.append(f"{workload} failed: {exc}")
                return
            for repeat in range(self._bench.repeats):
                for talk in TALKS:
                    for server in servers:
                        self._bench.on_step(f"{workload} {server.contender.name}: {talk.variant}")
                        self._bench.report.runs.append(self._measure(workload, talk, server, load, repeat))
        for contender in contenders:
            for item, measure in ((IDLE_SOCKET, self._idle_sockets), (RESIDENT_ACTOR, self._resident_actors)):
                self._bench.on_step(f"{workload} {contender.name}: memory of {item}s")
                with self._bench.fresh(f"{workload}-{contender.name}") as data:
                    try:
                        with Server(contender, data) as server:
                            count, grown_bytes = measure(server)
                    except LoadFailed as exc:
                        self._bench.report.notes.append(f"{workload} {contender.name}, memory of {item}s: {exc}")
                    else:
                        self._bench.report.footprints.append(Footprint(workload, contender.name, item, count, grown_bytes))

    def _measure(self, workload: str, talk: Talk, server: Server, load: SocketLoad, repeat: int) -> Run:
        path, trial = "/parties/main/talk", Trial(workload, talk.variant, server.contender.name, repeat)
        try:
            load.run(server.port, path, talk.sockets, talk.under_way, 1)
            before = server.usage()
            sample = load.run(server.port, path, talk.sockets, talk.under_way, self._bench.seconds)
            return trial.run(sample, server.usage().since(before))
        except LoadFailed as exc:
            return trial.failed(f"{exc} {server.ended()}".strip())

    def _idle_sockets(self, server: Server) -> tuple[int, int]:
        with opened(server.port, [f"/parties/main/room-{number % ROOMS}" for number in range(SOCKETS_BEFORE)]):
            before_bytes = settled_bytes(server)
            with opened(server.port, [f"/parties/main/room-{number % ROOMS}" for number in range(self._sockets)]):
                return self._sockets, settled_bytes(server) - before_bytes

    def _resident_actors(self, server: Server) -> tuple[int, int]:
        exchange(server.port, "POST", [f"/parties/main/before-{number}" for number in range(ACTORS_BEFORE)])
        before_bytes = settled_bytes(server)
        exchange(server.port, "POST", [f"/parties/main/actor-{number}" for number in range(self._actors)])
        return self._actors, settled_bytes(server) - before_bytes


def steps(repeats: int) -> int:
    """How often `on_step` is called for a contender."""
    return repeats * len(TALKS) + 2


def settled_bytes(server: Server) -> int:
    time.sleep(SETTLE_S)  # noqa: TID251 - for a real process, and nothing else runs here
    return server.usage().memory_bytes
