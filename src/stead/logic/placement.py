"""Which node is whose: a home for each actor, the slices of orphans' alarms, and what moves when nodes come and go.

**Homes** are by rendezvous: every node has a score for every actor, and the highest one is the actor's home. All nodes compute the
same without asking each other, and a node that comes or goes changes the home of its own share only. Scores go by a node's name,
not by its incarnation, so a node that starts again has the same actors.

**Slices** are shares of all actors, fixed for ever by an actor's id, so an engine can store one beside each alarm and ask for those
of one node without reading the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import ceil, log
from zlib import crc32

import msgspec

SLICES = 1024  # far more than nodes, so that shares are even; a power of two, so that they stay so as nodes double
SLACK = 0.1  # of a fair share that a node may have above it: what is nearly even stays where it is
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


class Wish(msgspec.Struct, frozen=True):
    """Where an actor should rather be. A wish that no node meets is no obstacle."""

    region: str = ""
    labels: Mapping[str, str] = {}

    def is_met(self, candidate: Candidate) -> bool:
        in_region = self.region in {"", candidate.region}
        return in_region and all(candidate.labels.get(label) == value for label, value in self.labels.items())


ANYWHERE = Wish()


def rendezvous(actor_text: str, candidates: Iterable[Candidate], wish: Wish = ANYWHERE) -> Candidate | None:
    """The node where an actor should be: of those that meet the wish, if any, and do not drain, if any. None: there is no node."""
    eligible = list(candidates)
    for is_right in (lambda candidate: not candidate.is_draining, wish.is_met):
        eligible = list(filter(is_right, eligible)) or eligible
    number = _number(actor_text)
    return max(eligible, key=lambda candidate: (_score(number, candidate), candidate.incarnation), default=None)


def slice_of(actor_text: str) -> int:
    """The slice of an actor, by its id's text."""
    return crc32(actor_text.encode()) % SLICES


def rank_of(slice_number: int, nodes: int) -> int:
    """Which of `nodes` live nodes, ordered by incarnation, a slice belongs to."""
    return slice_number % nodes


def moves(
    hot_first: Sequence[str], own: int, candidates: Sequence[Candidate], owned: Mapping[int, int], moves_max: int
) -> list[tuple[str, int]]:
    """What the node `own` should hand over to whom now: actors and incarnations, the hottest actors first, at most `moves_max`.

    `hot_first` are its actors, `owned` says how many each node has. Only actors whose home is elsewhere move, and only to nodes
    that are below their share, so nothing moves twice and what is nearly even stays. A node that drains hands everything over.
    """
    staying = [candidate for candidate in candidates if not candidate.is_draining]
    if all(candidate.incarnation != own for candidate in candidates) or not staying:
        return []
    if all(candidate.incarnation != own for candidate in staying):
        return [
            (actor, target.incarnation) for actor in hot_first[:moves_max] if (target := rendezvous(actor, staying)) is not None
        ]
    fair = _fair_shares(staying, owned)
    excess = {node: owned.get(node, 0) - share for node, share in fair.items()}
    if excess[own] <= fair[own] * SLACK:
        return []
    part = excess[own] / sum(amount for amount in excess.values() if amount > 0)  # others that have too much fill the same room
    room = {node: int(-amount * part) for node, amount in excess.items() if amount < 0}
    chosen: list[tuple[str, int]] = []
    for actor in hot_first:
        if len(chosen) >= min(moves_max, excess[own]):
            break
        target = rendezvous(actor, staying)
        if target is not None and room.get(target.incarnation, 0) > 0:
            room[target.incarnation] -= 1
            chosen.append((actor, target.incarnation))
    return chosen


def _fair_shares(nodes: Sequence[Candidate], owned: Mapping[int, int]) -> dict[int, int]:
    total, weights = sum(owned.get(node.incarnation, 0) for node in nodes), sum(node.weight for node in nodes)
    return {node.incarnation: ceil(total * node.weight / weights) for node in nodes}


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
