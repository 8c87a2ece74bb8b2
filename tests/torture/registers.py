"""Whether what clients saw of one register could have been seen of a single value that was read and written one after the other.

A search for such an order after Wing and Gong: take next whatever no other request must precede, and come back where that leads
nowhere; where the same requests have been taken and the value is the same, there is nothing new to find (Lowe). A read that fits
is taken at once, since it can be in nobody's way. Every value is written once, so of the requests in doubt only those count whose
value somebody saw, and they were done by then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

STEPS_MAX = 200_000  # of one search, some seconds


@dataclass(frozen=True, slots=True)
class Access:
    """One request: it found a value (a plain write any) and left one. Without an end its outcome is not known."""

    begin_s: float
    left: str | None
    found: str | None = None
    end_s: float = math.inf
    is_blind: bool = False  # it did not look at what it found

    def fits(self, value: str | None) -> bool:
        return self.is_blind or self.found == value

    @property
    def is_read(self) -> bool:
        return not self.is_blind and self.left == self.found


class Undecided(Exception):
    """The search has taken its share of time."""


def register_faults(history: Iterable[Access], steps_max: int = STEPS_MAX) -> list[str]:
    """What is wrong with all that was asked of one register, which was None first. Raises `Undecided`."""
    accesses = list(history)
    written = {access.left for access in accesses if not access.is_read} | {None}
    seen = {access.found for access in accesses if not access.is_blind and not math.isinf(access.end_s)}
    unheard = sorted(map(str, seen - written))
    if unheard:
        return [f"{value!r} was seen, which nobody wrote" for value in unheard]
    ordered = sorted(_done(accesses), key=lambda access: access.begin_s)
    return _Search(ordered, steps_max).faults()


def _done(accesses: Sequence[Access]) -> Iterator[Access]:
    """What must have happened, each with the time by which it had."""
    in_doubt = {access.left: access for access in accesses if math.isinf(access.end_s)}
    known = [access for access in accesses if not math.isinf(access.end_s)]
    yield from known
    ends: dict[str | None, float] = {}
    wanted = deque((access.found, access.end_s) for access in known if not access.is_blind)
    while wanted:
        value, end_s = wanted.popleft()
        access = in_doubt.get(value)
        if access is not None and end_s < ends.get(value, math.inf):
            ends[value] = end_s
            if not access.is_blind:
                wanted.append((access.found, end_s))
    for value, end_s in ends.items():
        yield replace(in_doubt[value], end_s=end_s)


class _Search:
    def __init__(self, accesses: Sequence[Access], steps_max: int) -> None:
        self._accesses = accesses
        self._steps_max = steps_max

    def faults(self) -> list[str]:
        everything = (1 << len(self._accesses)) - 1
        places: list[tuple[int, str | None]] = [(0, None)]  # what was taken, as bits, and the value then
        seen = set(places)
        furthest = places[0]
        while places:
            taken, value = place = places.pop()
            if taken == everything:
                return []
            if taken.bit_count() > furthest[0].bit_count():
                furthest = place
            for following in self._following(taken, value):
                if following not in seen:
                    if len(seen) >= self._steps_max:
                        raise Undecided(f"{len(self._accesses)} requests, {self._steps_max} steps")
                    seen.add(following)
                    places.append(following)
        return [self._describe(*furthest)]

    def _open(self, taken: int) -> list[int]:
        """Those that may come next: no other that is left was answered before they were sent."""
        found: list[int] = []
        soonest_s = math.inf
        first = (~taken & (taken + 1)).bit_length() - 1  # the lowest bit that is not set
        for index in range(first, len(self._accesses)):
            access = self._accesses[index]
            if access.begin_s > soonest_s:
                break
            if not taken >> index & 1:
                found.append(index)
                soonest_s = min(soonest_s, access.end_s)
        return [index for index in found if self._accesses[index].begin_s <= soonest_s]

    def _following(self, taken: int, value: str | None) -> Iterator[tuple[int, str | None]]:
        fitting = [index for index in self._open(taken) if self._accesses[index].fits(value)]
        read = next((index for index in fitting if self._accesses[index].is_read), None)
        for index in fitting if read is None else [read]:
            yield taken | 1 << index, self._accesses[index].left

    def _describe(self, taken: int, value: str | None) -> str:
        waiting = [self._accesses[index] for index in self._open(taken)]
        wants = ", ".join(f"{access.found!r} found and {access.left!r} left at {access.begin_s:.3f} s" for access in waiting)
        return f"after {taken.bit_count()} requests, when it was {value!r}, none of these can come next: {wants}"
