"""WPn: W3 on one PostgreSQL, by more and more nodes. They and the database share the servers' core, so the rate cannot grow with
them; what can be seen is what a node more costs: processor time for a request, commits that no longer share a transaction, and
requests that come to one node for an actor of another.

*Nodes* are servers of their own, *workers* those of one `--workers` server, among which the kernel divides the clients. There are
as many clients for each node as one has alone, so that it has as much to put into a transaction as it would on a core of its own;
and, once more, as many in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import databases
from benchmarks.bench import Bench, Trial
from benchmarks.client import exchange
from benchmarks.contenders import POSTGRES, Command, Contender, Place, postgres, stead_node
from benchmarks.counting import check_counts, total
from benchmarks.load import Load, LoadFailed, Sample, run_loads
from benchmarks.report import Run
from benchmarks.server import Server, free_ports

COUNTS = (1, 2, 4)
STEAD = "stead"
ACTORS = "kv-counter/"  # what /kv/ counts in
WARM_UP_S = 2  # longer than for one node: nodes connect to each other, and actors find their places


def separate(count: int) -> str:
    """The variant's name."""
    return f"nodes: {count}"


def workers(count: int) -> str:
    """The variant's name."""
    return f"workers: {count}"


def crowded(count: int) -> str:
    """The variant's name."""
    return f"nodes, as many clients as of one: {count}"


@dataclass(frozen=True)
class Point:
    """What is measured: the nodes (None: they did not start), the ports of those beside the last, and how they are asked."""

    variant: str
    server: Server | None
    more: Sequence[int]
    load: Load


class NodeSession:
    """Fills a report with WPn."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run(self, workload: str, load: Load) -> None:
        with ExitStack() as stack:
            points = []
            for count in COUNTS:
                more = free_ports(count - 1)
                server = self._start(stack, f"{workload}-{count}", load, partial(apart, more))
                points.append(Point(separate(count), server, more, load.times(count)))
                if count > 1:
                    points.append(Point(crowded(count), server, more, load))
                    server = self._start(stack, f"{workload}-{count}-workers", load, partial(as_workers, count))
                    points.append(Point(workers(count), server, [], load.times(count)))
            for repeat in range(self._bench.repeats):
                for point in points:
                    self._bench.on_step(f"{workload} {point.variant}")
                    if point.server is not None:
                        self._bench.report.runs.append(self._measure(workload, point, point.server, repeat))

    def _start(self, stack: ExitStack, name: str, load: Load, commands: Callable[[Place], list[Command]]) -> Server | None:
        """The nodes, with all actors of the load made; None (and a note) if that failed."""
        contender = Contender(STEAD, frozenset({POSTGRES}), commands, lambda: "", lambda: "")
        try:
            server = stack.enter_context(Server(contender, stack.enter_context(self._bench.fresh(name))))
            exchange(server.port, "POST", load.paths())
        except LoadFailed as exc:
            self._bench.report.notes.append(f"{name} failed: {exc}")
            return None
        return server

    def _measure(self, workload: str, point: Point, server: Server, repeat: int) -> Run:
        more, load, trial = point.more, point.load, Trial(workload, point.variant, STEAD, repeat)
        ports = [server.port, *more]
        try:
            run_loads(ports, load, WARM_UP_S)
            before = total(server.port, load)
            channels = databases.channel_ports(server)
            reading = databases.read(server, channels)
            usage = server.usage()
            samples = run_loads(ports, load, self._bench.seconds)
            used = server.usage().since(usage)
            later = databases.read(server, channels)
            owned = databases.owned(server, load.prefix.replace("/kv/", ACTORS))
            sample = together(samples)
            fault = sample.fault or check_counts(load, sample, before, total(server.port, load))
        except LoadFailed as exc:
            return trial.failed(f"{exc} {server.ended()}".strip())
        at_home = [owned.get(node_name(port), 0) for port in ports] if more else list(owned.values())
        asked = [each.requests for each in samples] if more else [1] * len(at_home)
        return trial.run(replace(sample, fault=fault), used, reading.until(later, share_crossed(at_home, asked)))


def steps(repeats: int) -> int:
    """How often `on_step` is called."""
    return repeats * (3 * len(COUNTS) - 2)


def together(samples: Sequence[Sample]) -> Sample:
    """Loads that ran at the same time as one: the mean of the medians by their weights, the worst of the 99th percentiles."""
    requests = sum(sample.requests for sample in samples)
    return Sample(
        requests,
        max(sample.seconds for sample in samples),
        sum(sample.p50_ms * sample.requests for sample in samples) / max(1, requests),
        max(sample.p99_ms for sample in samples),
        " ".join(sample.fault for sample in samples).strip(),
    )


def share_crossed(at_home: Sequence[int], asked: Sequence[int]) -> float:
    """Of requests for any actor alike, those for another node's: by how many actors each node has, and was asked how often."""
    answered = sum(home * requests for home, requests in zip(at_home, asked, strict=True))
    return 1 - answered / (sum(at_home) * sum(asked))


def node_name(port: int) -> str:
    return f"node-{port}"


def apart(more: Sequence[int], place: Place) -> list[Command]:
    """Nodes that are servers of their own, one at the place's port and one at each of `more`."""
    return [postgres(place), *(stead_node(place, port, node_name(port)) for port in (*more, place.port))]


def as_workers(count: int, place: Place) -> list[Command]:
    """Nodes that are the workers of one server."""
    return [postgres(place), stead_node(place, place.port, node_name(place.port), "--workers", str(count))]
