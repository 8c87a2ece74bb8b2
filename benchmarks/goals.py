"""What "ahead" means: the aims of the benchmark, and whether a report reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.figures import Cell, Summary, flushes_per_request, summaries
from benchmarks.nodes import COUNTS, separate
from benchmarks.queues import deliveries, sends
from benchmarks.report import Report
from benchmarks.rooms import DELIVERIES, DELIVERIES_MANY, RESIDENT_ACTOR

STEAD = "stead"
FLAT = 0.8  # the slowest point of a growth over its fastest
FLUSHES_PER_REQUEST_MAX = 0.1
START_S_MAX = 0.5
MEMORY_MAX = 0.5  # of the peer's
NODES_CPU_MAX = 2.0  # of one node's processor time for a request: what several nodes may cost


@dataclass(frozen=True)
class Ratio:
    """Stead's rate over a peer's (or, of `p50`, the peer's time over Stead's) must be at least `least`."""

    workload: str
    variant: str
    peer: str
    least: float
    of: str = "rate"

    @property
    def text(self) -> str:
        return f"p50 ≤ {self.peer}'s" if self.of == "p50" else f"≥ {self.least:g} × {self.peer}"


@dataclass(frozen=True)
class Verdict:
    """`is_reached` is None where the report does not tell."""

    workload: str
    variant: str
    aim: str
    measured: str
    is_reached: bool | None


RATIOS = (
    Ratio("W1", "", "workerd", 1.0),
    Ratio("W1", "", "starlette", 0.8),
    Ratio("W2", "", "workerd", 2.0),
    Ratio("W3", "", "workerd", 8.0),
    Ratio("W3", "", "fastapi-redis", 3.0),
    Ratio("W3c1", "", "workerd", 1.0, of="p50"),
    Ratio("W4", "", "workerd", 5.0),
    Ratio("W3sql", "", "workerd", 5.0),
    Ratio("WP", "", "fastapi-asyncpg", 3.0),
    Ratio("WPhot", "", "fastapi-asyncpg", 3.0),
    Ratio("W5", "never seen", "workerd", 10.0),
    Ratio("W5", "evicted", "workerd", 10.0),
    Ratio("W6", DELIVERIES, "partyserver", 1.0),
    Ratio("W6", DELIVERIES_MANY, "partyserver", 1.0),
    Ratio("W8", sends(100), "redis-streams", 1.0),
    Ratio("W8", deliveries(100), "redis-streams", 1.0),
)
GROWTHS = ("W2, stored actors", "W3, stored actors", "W2, size", "W3, size")


def judge(report: Report) -> list[Verdict]:
    """Every aim, in the order of the workloads."""
    found = summaries(report)
    verdicts = [_judge_ratio(ratio, found) for ratio in RATIOS]
    verdicts += [
        _judge_flushes(report),
        _judge_start(found),
        _judge_memory(report),
        *(_judge_nodes(count, found) for count in COUNTS[1:]),
        *(_judge_growth(growth, found) for growth in GROWTHS),
    ]
    return sorted(verdicts, key=lambda verdict: verdict.workload)


def ratio_of(stead: Summary, peer: Summary, of: str = "rate") -> float:
    """Above 1 is better for Stead."""
    return peer.p50_ms / stead.p50_ms if of == "p50" else stead.rate / peer.rate


def _judge_ratio(ratio: Ratio, found: Mapping[Cell, Summary | None]) -> Verdict:
    stead, peer = (found.get((ratio.workload, ratio.variant, name)) for name in (STEAD, ratio.peer))
    if stead is None or peer is None:
        return Verdict(ratio.workload, ratio.variant, ratio.text, "not measured", None)
    measured = ratio_of(stead, peer, ratio.of)
    shown = f"{stead.p50_ms:.2f} ms, {peer.p50_ms:.2f} ms" if ratio.of == "p50" else f"{measured:.2f} ×"
    return Verdict(ratio.workload, ratio.variant, ratio.text, shown, measured >= ratio.least)


def _judge_flushes(report: Report) -> Verdict:
    aim = f"≤ {FLUSHES_PER_REQUEST_MAX:g} flushes a request"
    measured = flushes_per_request(report, "W3", STEAD)
    if measured is None:
        return Verdict("W3", "", aim, "not measured", None)
    return Verdict("W3", "", aim, f"{measured:.3f}", measured <= FLUSHES_PER_REQUEST_MAX)


def _judge_start(found: Mapping[Cell, Summary | None]) -> Verdict:
    aim = f"≤ {START_S_MAX:g} s from process start to first answer"
    summary = found.get(("W5", "process start", STEAD))
    if summary is None:
        return Verdict("W5", "process start", aim, "not measured", None)
    return Verdict("W5", "process start", aim, f"{summary.p50_ms / 1000:.2f} s", summary.p50_ms / 1000 <= START_S_MAX)


def _judge_memory(report: Report) -> Verdict:
    aim = f"≤ {MEMORY_MAX:g} × partyserver's memory"
    each = {footprint.contender: footprint.bytes_each for footprint in report.footprints if footprint.item == RESIDENT_ACTOR}
    stead, peer = each.get(STEAD), each.get("partyserver")
    if stead is None or peer is None:
        return Verdict("W6", RESIDENT_ACTOR, aim, "not measured", None)
    return Verdict("W6", RESIDENT_ACTOR, aim, f"{stead / 1024:.1f} KiB, {peer / 1024:.1f} KiB", stead <= MEMORY_MAX * peer)


def _judge_nodes(count: int, found: Mapping[Cell, Summary | None]) -> Verdict:
    aim = f"≤ {NODES_CPU_MAX:g} × one node's processor time for a request"
    one, several = (found.get(("WPn", separate(number), STEAD)) for number in (1, count))
    if one is None or several is None:
        return Verdict("WPn", separate(count), aim, "not measured", None)
    measured = several.cpu_us_per_request / one.cpu_us_per_request
    return Verdict("WPn", separate(count), aim, f"{measured:.2f} ×", measured <= NODES_CPU_MAX)


def _judge_growth(growth: str, found: Mapping[Cell, Summary | None]) -> Verdict:
    aim = f"flat within {100 * (1 - FLAT):.0f} %"
    points = [
        summary for (workload, variant, _), summary in found.items() if workload == "W7" and variant.startswith(f"{growth}: ")
    ]
    rates = [summary.rate for summary in points if summary is not None]
    if len(rates) < len(points) or len(rates) < 2:
        return Verdict("W7", growth, aim, "not measured", None)
    flat = min(rates) / max(rates)
    return Verdict("W7", growth, aim, f"slowest {flat:.2f} × fastest", flat >= FLAT)
