"""What WPn says of more nodes than there are cores here: four costs, and what they add up to.

    a request, on nodes       local + crossing × the share of requests that cross
    a request, in PostgreSQL  commit + transaction / requests that share a transaction

Both are fitted to the medians of the variants (least squares). Then so many nodes with a core each answer
1 / (cost on nodes) requests a second each, and the database, its log and the network have to take what that comes to.

It is a sum of processor time and bytes, nothing else: it knows no waiting for locks inside PostgreSQL, and no memory that is full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median

from benchmarks.nodes import separate
from benchmarks.plot import PEER_COLOUR, STEAD_COLOUR, Figure
from benchmarks.report import Report, Run, Shared

TITLE = "The model: nodes of one core each, all of them busy"
COLUMNS = (
    "nodes",
    "requests/s",
    "crossed",
    "PostgreSQL, cores",
    "log, MB/s",
    "to and from PostgreSQL, MB/s",
    "between nodes, MB/s",
)
COSTS_TITLE = "What the model is made of"
COSTS_COLUMNS = ("", "each")
COUNTS = (1, 2, 4, 10, 30, 100, 300, 1000)
DATABASE_CORES = (4, 16, 64)  # of the lines in the picture
MICRO, MEGA = 1e-6, 1e6


@dataclass(frozen=True)
class Costs:
    """Processor time in µs, and bytes."""

    local_us: float
    crossing_us: float
    commit_us: float
    transaction_us: float
    together: float  # requests that share a transaction of a busy node
    log_bytes: float
    database_bytes: float
    crossing_bytes: float

    @property
    def database_us(self) -> float:
        """Of a request, in PostgreSQL."""
        return self.commit_us + self.transaction_us / self.together


@dataclass(frozen=True)
class Cluster:
    """So many nodes, each busy with one core."""

    nodes: int
    costs: Costs

    @property
    def crossed(self) -> float:
        return 1 - 1 / self.nodes

    @property
    def requests_per_s(self) -> float:
        return self.nodes / (self.costs.local_us + self.costs.crossing_us * self.crossed) / MICRO

    @property
    def database_cores(self) -> float:
        return self.requests_per_s * self.costs.database_us * MICRO


def costs_of(report: Report) -> Costs | None:
    """None without the variants of WPn."""
    grouped: dict[str, list[tuple[Run, Shared]]] = {}
    for run in report.runs:
        if run.workload == "WPn" and run.shared is not None and not run.fault:
            grouped.setdefault(run.variant, []).append((run, run.shared))
    if separate(1) not in grouped or len(grouped) < 3:
        return None
    alone = grouped[separate(1)]
    busy = [found for variant, found in grouped.items() if "as many" not in variant]  # those that fill their transactions
    crossing = linear_regression([_median(found, _crossed) for found in busy], [_median(found, _node_us) for found in busy])
    shared = linear_regression(
        [_median(found, _transactions) for found in grouped.values()], [_median(found, _database_us) for found in grouped.values()]
    )
    far = [found for found in busy if found is not alone]
    return Costs(
        crossing.intercept,
        crossing.slope,
        shared.intercept,
        shared.slope,
        1 / _median(alone, _transactions),
        _median(alone, lambda run, shared: shared.log_bytes / run.requests),
        _median(alone, lambda run, shared: shared.database_bytes / run.requests),
        median(_median(found, lambda run, shared: shared.channel_bytes / run.requests / shared.crossed) for found in far),
    )


def cluster_rows(report: Report) -> list[Sequence[str]]:
    """A row for each number of nodes, as long as COLUMNS."""
    costs = costs_of(report)
    return [] if costs is None else [_row(Cluster(count, costs)) for count in COUNTS]


def costs_rows(report: Report) -> list[Sequence[str]]:
    """A row for each cost, as long as COSTS_COLUMNS."""
    costs = costs_of(report)
    if costs is None:
        return []
    return [
        ("a request at its actor's node", f"{costs.local_us:.0f} µs"),
        ("a request that crosses, on both nodes, more than that", f"{costs.crossing_us:.0f} µs"),
        ("a commit, in PostgreSQL", f"{costs.commit_us:.1f} µs"),
        ("a transaction, in PostgreSQL", f"{costs.transaction_us:.0f} µs"),
        ("requests that share one", f"{costs.together:.0f}"),
        ("log", f"{costs.log_bytes:.0f} bytes a request"),
        ("to and from PostgreSQL", f"{costs.database_bytes:.0f} bytes a request"),
        ("between nodes", f"{costs.crossing_bytes:.0f} bytes a request that crosses"),
    ]


def save_picture(report: Report, path: Path) -> bool:
    """Draw the requests of more and more nodes, and what databases have processor time for. False without matplotlib or WPn."""
    costs = costs_of(report)
    if Figure is None or costs is None:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(COUNTS, [Cluster(count, costs).requests_per_s for count in COUNTS], color=STEAD_COLOUR, marker="o")
    for cores in DATABASE_CORES:
        most = cores / costs.database_us / MICRO
        axis.axhline(most, color=PEER_COLOUR, linestyle="--")
        axis.text(COUNTS[0], most * 1.05, f"one PostgreSQL, all of {cores} cores: {most:,.0f}/s", fontsize=8)
    axis.set(xscale="log", yscale="log", xlabel="nodes, a core each", ylabel="durable requests a second (model)")
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True


def _row(cluster: Cluster) -> Sequence[str]:
    rate, costs = cluster.requests_per_s, cluster.costs
    return (
        f"{cluster.nodes:,}",
        f"{rate:,.0f}",
        f"{100 * cluster.crossed:.0f} %",
        f"{cluster.database_cores:,.1f}",
        f"{rate * costs.log_bytes / MEGA:,.1f}",
        f"{rate * costs.database_bytes / MEGA:,.1f}",
        f"{rate * cluster.crossed * costs.crossing_bytes / MEGA:,.1f}",
    )


def _median(found: Sequence[tuple[Run, Shared]], of: Callable[[Run, Shared], float]) -> float:
    return median(of(run, shared) for run, shared in found)


def _crossed(run: Run, shared: Shared) -> float:
    return shared.crossed


def _node_us(run: Run, shared: Shared) -> float:
    return (run.cpu_s - shared.cpu_s) / run.requests / MICRO


def _database_us(run: Run, shared: Shared) -> float:
    return shared.cpu_s / run.requests / MICRO


def _transactions(run: Run, shared: Shared) -> float:
    return shared.transactions / run.requests
