"""What several runs come to: medians, spreads and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.report import Report, Run

Cell = tuple[str, str, str]  # workload, variant, contender


@dataclass(frozen=True)
class Summary:
    """The runs of one contender under one workload: medians, and `low` to `high` as the spread of the rate."""

    rate: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    cpu_percent: float
    cpu_us_per_request: float
    memory_peak_bytes: int
    bytes_per_request: float
    runs: int

    @property
    def spread_percent(self) -> float:
        """How far the farthest run is from the median."""
        return 100 * max(self.high - self.rate, self.rate - self.low) / self.rate


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def summarize(runs: Sequence[Run]) -> Summary | None:
    """Over the runs without a fault, None if there is none."""
    good = [run for run in runs if not run.fault]
    if not good:
        return None
    rates = [run.rate for run in good]
    return Summary(
        rate=median(rates),
        low=min(rates),
        high=max(rates),
        p50_ms=median(run.p50_ms for run in good),
        p99_ms=median(run.p99_ms for run in good),
        cpu_percent=median(100 * run.cpu_s / run.seconds for run in good),
        cpu_us_per_request=median(1e6 * run.cpu_s / run.requests for run in good),
        memory_peak_bytes=max(run.memory_peak_bytes for run in good),
        bytes_per_request=median(run.written_bytes / run.requests for run in good),
        runs=len(good),
    )


def summaries(report: Report) -> dict[Cell, Summary | None]:
    """In the order in which they were first run."""
    grouped: dict[Cell, list[Run]] = {}
    for run in report.runs:
        grouped.setdefault((run.workload, run.variant, run.contender), []).append(run)
    return {cell: summarize(runs) for cell, runs in grouped.items()}


def flushes_per_request(report: Report, workload: str, contender: str) -> float | None:
    """None where it was not measured, or where the measurement does not count."""
    for proof in report.proofs:
        if (proof.workload, proof.contender) == (workload, contender) and not proof.fault and proof.flushes is not None:
            return proof.flushes / proof.requests
    return None
