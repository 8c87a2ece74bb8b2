"""Counters as witnesses: what was acknowledged must be in them, and no more than that and what was under way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from benchmarks.client import exchange
from benchmarks.load import Load, LoadFailed, Sample

READINGS_MAX = 10  # of all counters, until two agree; what a load left under way is done by the second
GREETING = b"hello"


def total(port: int, load: Load) -> int:
    """The sum of all counters of a load at rest, 0 if it only asks for the greeting. Reading each makes it resident, too."""

    def read() -> int:
        bodies = exchange(port, "GET", load.paths()).bodies
        return sum_counters(bodies) if bodies != [GREETING] else 0

    return at_rest(read)


def at_rest(read: Callable[[], int]) -> int:
    """What two readings in a row agree on. Raises `LoadFailed` if none do."""
    readings = (read() for _ in range(READINGS_MAX))
    for earlier, later in itertools.pairwise(readings):
        if earlier == later:
            return later
    raise LoadFailed(f"the counters do not come to rest: {READINGS_MAX} readings, no two in a row the same")


def sum_counters(bodies: Iterable[bytes]) -> int:
    try:
        return sum(int(body) for body in bodies)
    except ValueError as exc:
        raise LoadFailed(f"a counter answered with something else than its number: {exc}") from exc


def check_counts(load: Load, sample: Sample, before: int, after: int) -> str:
    """What is wrong with the counters, "" if nothing: they hold each acknowledged increment, besides at most those under way."""
    added = after - before
    if load.method != "POST":
        return f"reading changed the counters by {added}" if added else ""
    if added < sample.requests:
        return f"{sample.requests} increments were acknowledged and {added} were counted"
    if added > sample.requests + load.connections:
        return f"{sample.requests} increments were acknowledged, {load.connections} more were possible, and {added} were counted"
    return ""
