"""Where actors should rather be: what the manifest says of their unit, and what those said who asked for them.

A *hint* is the region that somebody named with `get(…, location_hint=…)`. The node where the event came in uses it where it looks
for one to take the actor in. It is remembered there, not stored, and not told to others. What the manifest says goes before it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from stead.events import Call, Event, Fetch
from stead.ids import ActorId
from stead.logic.placement import ANYWHERE, Candidate, Wish, rendezvous

REMEMBERED_MAX = 10_000  # hints: as many as ways to actors
SENT_ON_S = 5.0  # by then who was sent on has found the owner

log = logging.getLogger("stead.cluster")


class Wishes:
    """One per node. `by_unit` is what the manifest says."""

    def __init__(self, by_unit: Mapping[str, Wish]) -> None:
        self._by_unit = by_unit
        self._hints: OrderedDict[str, str] = OrderedDict()  # a region by an actor's id, the last that was given at the end
        self._sent_on: OrderedDict[tuple[str, int], float] = OrderedDict()  # when a peer was sent on that asked for an actor
        self._told: set[str] = set()  # units of which the log says that their wish was not met

    def heard(self, target: ActorId, event: Event) -> None:
        """Remember what an event says of where its actor should be."""
        if isinstance(event, Call | Fetch) and event.location_hint:
            self.hint(target, event.location_hint)

    def hint(self, target: ActorId, region: str) -> None:
        """Remember where an actor should be."""
        if region:
            self._hints[target.text] = region
            self._hints.move_to_end(target.text)
            _bound(self._hints)

    def of(self, target: ActorId) -> Wish:
        """What the manifest wishes for an actor."""
        return self._by_unit.get(target.unit, ANYWHERE)

    def home(self, target: ActorId, candidates: Sequence[Candidate]) -> Candidate | None:
        """The node where an actor that nobody has should be taken in. None: there is none that may."""
        wish = self.of(target)
        home = rendezvous(target.text, candidates, wish, Wish(self._hints.get(target.text, "")))
        if home is not None and not wish.is_met(home):
            self._tell(target.unit, wish)
        return home

    def successor(self, target: ActorId, region: str, candidates: Sequence[Candidate]) -> Candidate | None:
        """The node that should have an actor after one of that region: one of the same region, if the manifest lets it."""
        return rendezvous(target.text, candidates, self.of(target), Wish(region))

    def send_on(self, target: ActorId, peer: int, now_s: float) -> bool:
        """Whether a peer that asks here for an actor should look elsewhere: not again within SENT_ON_S."""
        key = (target.text, peer)
        is_new = now_s - self._sent_on.pop(key, -SENT_ON_S) >= SENT_ON_S
        if is_new:
            self._sent_on[key] = now_s
            _bound(self._sent_on)
        return is_new

    def _tell(self, unit: str, wish: Wish) -> None:
        if unit not in self._told:
            self._told.add(unit)
            log.warning("no live node has %s, which the manifest wishes for %s: others take its actors in", wish, unit)


def _bound(remembered: OrderedDict[Any, Any]) -> None:
    if len(remembered) > REMEMBERED_MAX:
        remembered.popitem(last=False)
