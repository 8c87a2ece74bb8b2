"""One benchmark from the first start to the last: contenders side by side, workloads one after the other.

A steady workload starts its contenders on fresh data, makes the actors, and then goes round: each repeat touches every actor (so
that all are resident), warms up, and measures. Around the measurement all counters are read: what was acknowledged must be in them,
and no more than that and what was under way on the connections when time was up. A load that has ended leaves requests under way,
one a connection, and the warm-up is such a load: so counters are read until they rest. After that each contender is started once
more, under strace, written to for a moment, killed, and started again: that gives the flushes of a request and shows that what was
acknowledged is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import databases, nodes, queues, rooms
from benchmarks.bench import Bench, Trial
from benchmarks.client import exchange
from benchmarks.contenders import HELLO, KV, POSTGRES, QUEUE, ROOM, Contender
from benchmarks.counting import check_counts, total
from benchmarks.figures import percentile
from benchmarks.load import Load, LoadFailed, Sample, run_load
from benchmarks.report import Proof, Run
from benchmarks.seeds import Seed, plant
from benchmarks.server import Server
from benchmarks.workloads import CONNECTIONS, IDS, Firsts, Growth, Nodes, Queues, Rooms, Steady, Workload

WARM_UP_S = 1
PROOF_S = 1
SIZED_ACTORS = 10  # of each size: 100 MiB at the largest
KIB, MIB = 1024, 1024 * 1024
SIZES = {"1 KiB": KIB, "32 KiB": 32 * KIB, "1 MiB": MIB, "10 MiB": 10 * MIB}


_KINDS = {Rooms: ROOM, Queues: QUEUE, Nodes: POSTGRES}


@dataclass(frozen=True)
class Plan:
    """How long and how much. `stored` are the points of W7, `residents` and `idle_sockets` what W6 weighs."""

    workloads: Sequence[Workload]
    contenders: Sequence[Contender]
    seconds: int
    repeats: int
    firsts: int
    stored: Sequence[int]
    residents: int
    idle_sockets: int

    def steps(self) -> int:
        """How often `on_step` will be called."""
        return sum(self._steps_of(workload) for workload in self.workloads)

    def taking_part(self, workload: Workload) -> list[Contender]:
        kind = workload.kind if isinstance(workload, Steady) else _KINDS.get(type(workload), KV)
        able = [contender for contender in self.contenders if kind in contender.serves]
        return [contender for contender in able if not isinstance(workload, Growth | Nodes) or contender.name == "stead"]

    def _steps_of(self, workload: Workload) -> int:
        takers = len(self.taking_part(workload))
        if isinstance(workload, Rooms):
            return takers * rooms.steps(self.repeats)
        if isinstance(workload, Queues):
            return takers * queues.steps(self.repeats)
        if isinstance(workload, Nodes):
            return takers * nodes.steps(self.repeats)
        if isinstance(workload, Growth):
            return takers * 2 * self.repeats * (len(self.stored) + len(SIZES))
        return takers * (self.repeats + (isinstance(workload, Steady) and workload.writes))


class Session:
    """Fills the report of `bench`, whose runs are as long and as many as the plan says."""

    def __init__(self, plan: Plan, bench: Bench, can_trace: bool) -> None:
        self._plan = plan
        self._bench = bench
        self._can_trace = can_trace

    def run(self) -> None:
        for workload in self._plan.workloads:
            contenders = self._plan.taking_part(workload)
            if isinstance(workload, Steady):
                self._run_steady(workload, contenders)
            elif isinstance(workload, Firsts):
                self._run_firsts(workload, contenders)
            elif isinstance(workload, Rooms):
                session = rooms.RoomSession(self._bench, self._plan.idle_sockets, self._plan.residents)
                session.run(workload.name, contenders)
            elif isinstance(workload, Queues):
                queues.QueueSession(self._bench).run(workload.name, contenders)
            elif isinstance(workload, Nodes) and contenders:
                nodes.NodeSession(self._bench).run(workload.name, workload.load)
            elif isinstance(workload, Growth) and contenders:
                self._run_growth(workload, contenders[0])

    def _run_steady(self, workload: Steady, contenders: Sequence[Contender]) -> None:
        with ExitStack() as stack:
            servers = []
            for contender in contenders:
                server = self._start(stack, workload, contender)
                if server is not None:
                    servers.append(server)
            for repeat in range(self._bench.repeats):
                for server in servers:
                    self._bench.on_step(f"{workload.name} {server.contender.name}")
                    self._measure(workload.name, "", server, workload.load, repeat)
        if workload.writes:
            for contender in contenders:
                self._bench.on_step(f"{workload.name} {contender.name}: flushes, kill")
                self._bench.report.proofs.append(self._prove(workload, contender))

    def _start(self, stack: ExitStack, workload: Steady, contender: Contender) -> Server | None:
        """A server with all actors of the workload made, None (and a note) if that failed."""
        try:
            server = stack.enter_context(
                Server(contender, stack.enter_context(self._bench.fresh(f"{workload.name}-{contender.name}")))
            )
            if workload.kind != HELLO:
                exchange(server.port, "POST", workload.load.paths())
        except LoadFailed as exc:
            self._bench.report.notes.append(f"{workload.name} {contender.name} failed: {exc}")
            return None
        return server

    def _measure(self, workload: str, variant: str, server: Server, load: Load, repeat: int) -> None:
        trial, is_shared = Trial(workload, variant, server.contender.name, repeat), POSTGRES in server.contender.serves
        try:
            run_load(server.port, load, WARM_UP_S)
            before = total(server.port, load)
            reading = databases.read(server) if is_shared else None
            usage = server.usage()
            sample = run_load(server.port, load, self._bench.seconds)
            used = server.usage().since(usage)
            shared = None if reading is None else reading.until(databases.read(server))
            fault = sample.fault or check_counts(load, sample, before, total(server.port, load))
            found = trial.run(replace(sample, fault=fault), used, shared)
        except LoadFailed as exc:
            found = trial.failed(f"{exc} {server.ended()}".strip())
        self._bench.report.runs.append(found)

    def _prove(self, workload: Steady, contender: Contender) -> Proof:
        load, name = workload.load, contender.name
        with self._bench.fresh(f"{workload.name}-{name}") as data:
            try:
                with Server(contender, data, traced=self._can_trace) as server:
                    exchange(server.port, "POST", load.paths())
                    before = total(server.port, load)
                    flushed = server.flushes() if self._can_trace else 0
                    sample = run_load(server.port, load, PROOF_S)
                    after = total(server.port, load)
                    flushes = server.flushes() - flushed if self._can_trace else None
                    server.kill()
                with Server(contender, data) as server:
                    survived = total(server.port, load)
            except LoadFailed as exc:
                return Proof(workload.name, name, 0, None, str(exc))
        fault = sample.fault or check_counts(load, sample, before, after)
        if survived < after:
            fault = f"of {after - before} acknowledged increments {after - survived} were lost by kill -9"
        return Proof(workload.name, name, sample.requests, flushes, fault)

    def _run_firsts(self, workload: Firsts, contenders: Sequence[Contender]) -> None:
        for repeat in range(self._bench.repeats):
            for contender in contenders:
                self._bench.on_step(f"{workload.name} {contender.name}")
                with self._bench.fresh(f"{workload.name}-{contender.name}") as data:
                    try:
                        self._bench.report.runs.extend(self._firsts(workload.name, contender, data, repeat))
                    except LoadFailed as exc:
                        self._bench.report.notes.append(f"{workload.name} {contender.name} failed: {exc}")

    def _firsts(self, workload: str, contender: Contender, data: Path, repeat: int) -> Iterator[Run]:
        paths = [f"/kv/w5-{number}" for number in range(self._plan.firsts)]
        with Server(contender, data) as server:
            exchange(server.port, "POST", ["/kv/warm-up"])
            yield burst(workload, "never seen", server, "POST", paths, repeat)
        with Server(contender, data) as server:
            start_ms = server.start_s * 1000
            yield Run(workload, "process start", contender.name, repeat, 1, server.start_s, start_ms, start_ms)
            exchange(server.port, "GET", ["/kv/warm-up"])
            yield burst(workload, "evicted", server, "GET", paths, repeat)

    def _run_growth(self, workload: Growth, contender: Contender) -> None:
        points = [(f"stored actors: {stored:,}", Seed("grown-", stored)) for stored in self._plan.stored]
        points += [(f"size: {label}", Seed("sized-", SIZED_ACTORS, size_bytes)) for label, size_bytes in SIZES.items()]
        for label, seed in points:
            with self._bench.fresh(workload.name) as data:
                plant(data / "stead", seed)
                with Server(contender, data) as server:
                    for repeat in range(self._bench.repeats):
                        for part, method in (("W2", "GET"), ("W3", "POST")):
                            load = Load(method, f"/kv/{seed.prefix}", min(seed.count, IDS), CONNECTIONS)
                            self._bench.on_step(f"{workload.name} {part}, {label}")
                            self._measure(workload.name, f"{part}, {label}", server, load, repeat)


def burst(workload: str, variant: str, server: Server, method: str, paths: Sequence[str], repeat: int) -> Run:
    """Each path once. Every answer must be 1: the counter was made by this burst, or by the one before."""
    usage = server.usage()
    answered = exchange(server.port, method, paths, CONNECTIONS)
    used = server.usage().since(usage)
    wrong = sum(body != b"1" for body in answered.bodies)
    fault = f"{wrong} counters answered with something else than 1" if wrong else ""
    p50_ms, p99_ms = percentile(answered.latencies_ms, 50), percentile(answered.latencies_ms, 99)
    sample = Sample(len(paths), answered.seconds, p50_ms, p99_ms, fault)
    return Trial(workload, variant, server.contender.name, repeat).run(sample, used)
