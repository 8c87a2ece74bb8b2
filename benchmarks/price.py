"""The price of the platform: what a request costs Stead's processor, part by part, beside the barest thing that could answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import summaries
from benchmarks.goals import STEAD
from benchmarks.report import Report

TITLE = "The price of the platform"
COLUMNS = ("", "µs/req", "more than the part before", "µs, bare", "× bare")
BARE_SERVER = "granian"


@dataclass(frozen=True)
class Part:
    """A workload of a contender, and the part whose price is part of its.

    `bare` is what a handler over a dict and one log with batched flushes took for the same, without turns, isolation or an engine,
    in greetings of the server it ran on (granian, RSGI): a reference that was measured once.
    """

    label: str
    workload: str
    contender: str
    before: str = ""
    bare: float | None = None


PARTS = (
    Part("the HTTP server: bare uvicorn", "W1", "uvicorn"),
    Part("W1: and gateway, routing, a service", "W1", STEAD, "the HTTP server: bare uvicorn", 55_900 / 53_300),
    Part("W2: and a call, a turn that reads", "W2", STEAD, "W1: and gateway, routing, a service", 55_900 / 51_000),
    Part("W3: and a commit, of 1,000 actors", "W3", STEAD, "W2: and a call, a turn that reads", 55_900 / 31_900),
    Part("W4: and a commit, of one actor", "W4", STEAD, "W2: and a call, a turn that reads", 55_900 / 34_400),
    Part("W3sql: and SQL in the commit", "W3sql", STEAD, "W3: and a commit, of 1,000 actors"),
)


def price_rows(report: Report) -> list[Sequence[str]]:
    """A row for each part that was measured, as long as COLUMNS."""
    found = summaries(report)
    greeting = found.get(("W1", "", BARE_SERVER))
    costs_us: dict[str, float] = {}
    rows: list[Sequence[str]] = []
    for part in PARTS:
        summary = found.get((part.workload, "", part.contender))
        if summary is None:
            continue
        cost_us = costs_us[part.label] = summary.cpu_us_per_request
        more = f"{cost_us - costs_us[part.before]:+.0f}" if part.before in costs_us else ""
        bare_us = greeting.cpu_us_per_request * part.bare if greeting is not None and part.bare is not None else None
        shown = ("", "") if bare_us is None else (f"{bare_us:.0f}", f"{cost_us / bare_us:.1f} ×")
        rows.append((part.label, f"{cost_us:.0f}", more, *shown))
    return rows
