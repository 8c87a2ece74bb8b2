"""Which node is whose: a home for each actor, the slices of orphans' alarms, and what moves when nodes come and go.

**Homes** are by rendezvous: every node has a score for every actor, and the highest one is the actor's home. All nodes compute the
same without asking each other, and a node that comes or goes changes the home of its own share only. Scores go by a node's name,
not by its incarnation, so a node that starts again has the same actors.

**Slices** are shares of all actors, fixed for ever by an actor's id, so an engine can store one beside each alarm and ask for those
of one node without reading the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log
from zlib import crc32

import msgspec

SLICES = 1024  # far more than nodes, so that shares are even; a power of two, so that they stay so as nodes double
_NODES_MAX = 4096  # whose names are remembered as numbers
_BITS = 64
_MASK = (1 << _BITS) - 1


class Candidate(msgspec.Struct, frozen=True):
    """A node that could have an actor."""

    incarnation: int
    name: str
    region: str = ""
    labels: Mapping[str, str] = {}
    is_draining: bool = False
    weight: float = 1.0  # of its share of actors
    units: tuple[str, ...] = ()  # whose actors it can run; none: any

    def runs(self, unit: str) -> bool:
        """Whether the node has the code of a unit, as far as it said."""
        return not self.units or unit in self.units


class Wish(msgspec.Struct, frozen=True):
    """Where an actor should rather be. A wish that no node meets is no obstacle, unless it is strict."""

    region: str = ""
    labels: Mapping[str, str] = {}
    is_strict: bool = False

    def is_met(self, candidate: Candidate) -> bool:
        in_region = self.region in {"", candidate.region}
        return in_region and all(candidate.labels.get(label) == value for label, value in self.labels.items())

    def __str__(self) -> str:
        region = [f"region {self.region!r}"] if self.region else []
        return " and ".join([*region, *(f"the label {label}={value}" for label, value in self.labels.items())])


ANYWHERE = Wish()


def eligible(candidates: Iterable[Candidate], *wishes: Wish) -> list[Candidate]:
    """The nodes that may have an actor: those that do not drain, if any, and of them those that meet each wish in turn, if any."""
    found = list(candidates)
    found = [candidate for candidate in found if not candidate.is_draining] or found
    for wish in wishes:
        meeting = [candidate for candidate in found if wish.is_met(candidate)]
        found = meeting if meeting or wish.is_strict else found
    return found


def rendezvous(actor_text: str, candidates: Iterable[Candidate], *wishes: Wish) -> Candidate | None:
    """The home of an actor: one of the nodes that may have it. None: there is no such node."""
    number = _number(actor_text)
    return max(
        eligible(candidates, *wishes), key=lambda candidate: (_score(number, candidate), candidate.incarnation), default=None
    )


def slice_of(actor_text: str) -> int:
    """The slice of an actor, by its id's text."""
    return crc32(actor_text.encode()) % SLICES


def rank_of(slice_number: int, nodes: int) -> int:
    """Which of `nodes` live nodes, ordered by incarnation, a slice belongs to."""
    return slice_number % nodes


def moves(
    hot_first: Iterable[tuple[str, Wish]], own: Candidate, candidates: Sequence[Candidate], newcomers: Collection[int]
) -> list[tuple[str, int]]:
    """What the node `own` should hand over to whom: actors and incarnations, in the order given.

    An actor moves to its home, if that is one of the `newcomers` or if its wish is met there and not here. So it moves once;
    what no newcomer is the home of stays, wherever that is. Regions are far apart: but for a wish nothing leaves its region.
    A node that drains has another way to give everything away.
    """
    if own.is_draining:
        return []
    here = Wish(own.region)
    chosen: list[tuple[str, int]] = []
    for actor, wish in hot_first:
        home = rendezvous(actor, candidates, wish, here)
        if home is None or home.is_draining or home.incarnation == own.incarnation:
            continue
        if home.incarnation in newcomers or (wish.is_met(home) and not wish.is_met(own)):
            chosen.append((actor, home.incarnation))
    return chosen


def _score(number: int, candidate: Candidate) -> float:
    """Weighted rendezvous: -weight / ln(u) with u in (0, 1) from actor and node (Schindelhauer and Schomaker, 2005)."""
    return -candidate.weight / log((_mix(number ^ _number(candidate.name)) + 0.5) / 2**_BITS)


@lru_cache(maxsize=_NODES_MAX)
def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_BITS // 8).digest(), "big")


def _mix(number: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): each bit in changes half of the bits out."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _MASK
    return number ^ (number >> 31)
