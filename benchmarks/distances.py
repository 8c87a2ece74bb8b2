"""How far Stead is from what nobody can pass: the bare HTTP server, the load itself, the disk."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import flushes_per_request, summaries
from benchmarks.goals import STEAD
from benchmarks.report import Limits, Report
from benchmarks.rooms import ECHO
from benchmarks.workloads import WORKLOADS, Firsts, Growth, Nodes, Queues, Rooms, Workload

BARE = "uvicorn"  # the server that Stead runs on, with a greeting and nothing else
TITLE = "How far from the limits"
COLUMNS = ("", "requests/s", "of the bare server's", "of what the load can ask", "flushes/s", "of what the disk can do")


def distance_rows(report: Report) -> list[Sequence[str]]:
    """A row for each rate that Stead was measured at, as long as COLUMNS. What is no limit, or was not measured, stays empty."""
    found = summaries(report)
    bare = found.get(("W1", "", BARE))
    limits = report.limits or Limits(0.0, 0.0, None, None)
    by_name = {workload.name: workload for workload in WORKLOADS if not isinstance(workload, Growth | Nodes | Queues)}
    rows: list[Sequence[str]] = []
    for (name, variant, contender), summary in found.items():
        if name not in by_name or contender != STEAD or summary is None or variant == "process start":
            continue
        is_http = not isinstance(by_name[name], Rooms)
        per_request = None if variant else flushes_per_request(report, name, STEAD)
        flushes = None if per_request is None else summary.rate * per_request
        rows.append(
            (
                f"{name} {variant}".strip(),
                f"{summary.rate:,.0f}",
                _share(summary.rate, bare.rate if bare is not None and is_http else None),
                _share(summary.rate, _load_limit(by_name[name], variant, limits)),
                "" if flushes is None else f"{flushes:,.0f}",
                _share(flushes, limits.rewrites),
            )
        )
    return rows


def _load_limit(workload: Workload, variant: str, limits: Limits) -> float | None:
    if isinstance(workload, Firsts):
        return limits.client
    if isinstance(workload, Rooms):
        return limits.sockets if variant != ECHO else None  # which is measured by its time
    return limits.wrk


def _share(rate: float | None, limit: float | None) -> str:
    return f"{100 * rate / limit:.0f} %" if rate is not None and limit else ""
