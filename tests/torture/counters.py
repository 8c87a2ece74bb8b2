"""Whether what clients saw of one counter could have been seen of a single one that each request reached once.

An increment is answered with the counter's new value, so the answers themselves say in which order they took effect, and the check
is exact and takes no search: the order of the numbers must not contradict the order in time, and a number that nobody was given
must be that of a request in doubt, sent early enough.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Count:
    """One request: when it was sent first and answered last, and the number in the answer; None if that is not known."""

    begin_s: float
    value: int | None
    end_s: float = math.inf
    is_read: bool = False


def counter_faults(history: Iterable[Count]) -> list[str]:
    """What is wrong with all that was asked of one counter, which began at 0."""
    requests = list(history)
    seen = sorted(((count.value, count.is_read, count) for count in requests if count.value is not None), key=_place)
    given = Counter(value for value, is_read, _ in seen if not is_read)
    doubled = [f"{value} was given {times} times" for value, times in given.items() if times > 1 or value < 1]
    in_doubt = sorted(count.begin_s for count in requests if count.value is None and not count.is_read)
    return doubled + _disorder(seen) + _gaps(seen, sorted(given), in_doubt)


_Seen = tuple[int, bool, Count]  # the number, and whether it was read: a read of it comes after the increment to it


def _place(seen: _Seen) -> tuple[int, bool]:
    return seen[:2]


def _disorder(seen: Sequence[_Seen]) -> list[str]:
    """Answers that came before a request was sent that took effect earlier."""
    faults = []
    latest_s, latest = -math.inf, 0
    for (value, _), group in groupby(seen, _place):
        counts = [count for _, _, count in group]
        late = [latest_s - count.end_s for count in counts if count.end_s < latest_s]
        faults += [f"{value} was seen {gap_s:.3f} s before the request for {latest} was sent" for gap_s in late]
        begin_s = max(count.begin_s for count in counts)
        if begin_s > latest_s:
            latest_s, latest = begin_s, value
    return faults


def _gaps(seen: Sequence[_Seen], given: Sequence[int], in_doubt: Sequence[float]) -> list[str]:
    """Numbers that no request in doubt explains. Who was sent first is taken for the smallest: if that fails, any choice does."""
    highest = seen[-1][0] if seen else 0
    missing = highest - len(given)
    if missing > len(in_doubt):
        return [f"it reached {highest} by {len(given)} answered increments and {len(in_doubt)} in doubt"]
    known = set(given)
    gaps = [number for number in range(1, highest + 1) if number not in known] if missing > 0 else []
    places = [_place(one) for one in seen]
    soonest_s = [math.inf] * (len(seen) + 1)  # of the answers from a place on
    for index in range(len(seen) - 1, -1, -1):
        soonest_s[index] = min(soonest_s[index + 1], seen[index][2].end_s)
    return [
        f"nobody had asked for {gap} yet when a later number was seen"
        for gap, begin_s in zip(gaps, in_doubt, strict=False)
        if begin_s > soonest_s[bisect_right(places, (gap, False))]
    ]
