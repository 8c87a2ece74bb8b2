"""How long actors could not be reached, by what clients were answered and what was done to the nodes meanwhile.

An actor is out of reach from when a request for it was sent that failed or took long, until the next one succeeds; whoever misses
one is joined by a probe (`probes.py`), so the end is seen when it comes. A request over a node that was itself hit says nothing of
the actor unless it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

SLOW_S = 0.5  # an answer that takes longer was none for a while
BEYOND_S = 2.0  # after a lease is over until what it held answers elsewhere
KILL, FREEZE, RESTART, DRAIN, POSTGRES = "kill -9", "freeze", "restart", "drain", "postgres"
KINDS = (KILL, FREEZE, RESTART, DRAIN)  # of a node
QUIET = "nothing"  # what is compared with
GRACEFUL = frozenset({RESTART, DRAIN, QUIET})  # clients shall not notice


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request as it was sent once. `owner` is the node whose answer it is, "" where it failed; `how` is its status, or why
    there is none.
    """

    actor: str
    edge: str  # the node it was sent to
    begin_s: float
    end_s: float
    owner: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a node, or to the database, for which `node` is "": until it was as before."""

    kind: str
    node: str
    begin_s: float
    end_s: float

    @property
    def is_graceful(self) -> bool:
        return self.kind in GRACEFUL

    def meets(self, begin_s: float, end_s: float) -> bool:
        return self.begin_s <= end_s and begin_s <= self.end_s


@dataclass(frozen=True, slots=True)
class Outage:
    """An actor was out of reach. `cause` is the kind of a fault meanwhile, of one that hit its node if there was any."""

    actor: str
    begin_s: float
    end_s: float
    cause: str
    hits: int  # faults that are not graceful, and whose time it overlaps

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


def outages(attempts: Iterable[Attempt], faults: Sequence[Fault]) -> list[Outage]:
    """All of them, by actor and time."""
    by_edge: dict[str, list[Fault]] = {}
    for fault in faults:
        if fault.kind != DRAIN:  # a node that drains goes on answering
            by_edge.setdefault(fault.node, []).append(fault)
    telling = [attempt for attempt in attempts if attempt.owner or not _is_hit(attempt, by_edge)]
    telling.sort(key=lambda attempt: (attempt.actor, attempt.end_s))
    return [
        outage
        for actor, group in groupby(telling, key=lambda attempt: attempt.actor)
        for outage in _of_actor(actor, group, faults, by_edge)
    ]


def _is_hit(attempt: Attempt, by_edge: Mapping[str, Sequence[Fault]]) -> bool:
    return any(fault.meets(attempt.begin_s, attempt.end_s) for fault in by_edge.get(attempt.edge, ()))


def _of_actor(
    actor: str, attempts: Iterable[Attempt], faults: Sequence[Fault], by_edge: Mapping[str, Sequence[Fault]]
) -> Iterable[Outage]:
    since_s, ok_s, owner = None, 0.0, ""
    for attempt in attempts:
        is_slow = attempt.end_s - attempt.begin_s > SLOW_S and not _is_hit(attempt, by_edge)
        if not attempt.owner or is_slow:
            begin_s = max(attempt.begin_s, ok_s)
            since_s = begin_s if since_s is None else min(since_s, begin_s)
        if attempt.owner:
            if since_s is not None:
                yield _outage(actor, since_s, attempt.end_s, owner, faults)
            since_s, ok_s, owner = None, attempt.end_s, attempt.owner


def _outage(actor: str, begin_s: float, end_s: float, owner: str, faults: Sequence[Fault]) -> Outage:
    near = [fault for fault in faults if fault.meets(begin_s, end_s)]
    causes = [fault.kind for fault in near if fault.node in {owner, ""}] or [fault.kind for fault in near]
    return Outage(actor, begin_s, end_s, causes[0] if causes else "", sum(not fault.is_graceful for fault in near))
