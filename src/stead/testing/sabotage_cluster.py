"""Planted bugs of what several nodes do together, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from typing import Any

from stead.cluster import Lease
from stead.cluster.router import Router
from stead.cluster.serving import Answering, Served
from stead.events import Event
from stead.ids import ActorId
from stead.runtime.activation import Activation
from stead.runtime.gate import Gate, LeasedGate
from stead.runtime.turn import Delivery
from stead.storage.contract import Commit
from stead.storage.membership import LeaseLost
from stead.storage.shared import SharedMemoryEngine
from stead.testing.sabotage import Plant, planting

CLUSTER_SABOTAGES: dict[str, Plant] = {}
_plant = planting(CLUSTER_SABOTAGES)


@_plant("P1", SharedMemoryEngine, "_follows")
def commit_without_epoch(right: Any) -> Any:
    """The engine looks at the sequence number only."""

    def follows(self: SharedMemoryEngine, commit: Commit) -> bool:
        stored = self.store.actors.get(commit.actor.text)
        return commit.seq == (0 if stored is None else stored.last.seq) + 1

    return follows


@_plant("P1", SharedMemoryEngine, "_check_claim")
def claim_ignores_leases(right: Any) -> Any:
    """Whoever claims an actor has it, whether its owner lives or not."""

    def check_claim(self: SharedMemoryEngine, actor: ActorId) -> None:
        if not self.incarnation:
            raise LeaseLost("only a node that has joined can own actors")

    return check_claim


@_plant("P1", Lease, "is_held")
def lease_never_ends(right: Any) -> Any:
    """Whoever has had a lease believes that it holds."""
    return property(lambda self: self._asked_s is not None)


@_plant("P1", LeasedGate, "release")
def answers_without_a_lease(right: Any) -> Any:
    """What waits for no commit leaves whether the lease is held or not."""
    return Gate.release


# -- P2: routing -----------------------------------------------------------------------------------------------------------------


@_plant("P2", Router, "lost")
def sent_again_after_a_loss(right: Any) -> Any:
    """What was under way when a line was lost is sent again, whether it may have run or not."""

    def lost(self: Router, route: Any, items: Any) -> None:
        self._queue(route, list(items), in_front=True)

    return lost


@_plant("P2", Router, "serve")
def refused_and_run(right: Any) -> Any:
    """A node that takes no actors in says so, and takes this one in."""

    def serve(self: Router, served: Served, number: int, event: Event, reply: Answering) -> None:
        if not self._here.has(served.target) and not self.is_accepting:
            served.refuse([number], 0)
            self._here.take_in(served.target, event, reply, None)
        else:
            right(self, served, number, event, reply)

    return serve


@_plant("P2", Router, "serve")
def taken_in_while_events_are_elsewhere(right: Any) -> Any:
    """An actor is claimed for a peer while own events for it are on their way to another node."""

    def serve(self: Router, served: Served, number: int, event: Event, reply: Answering) -> None:
        if self.is_accepting:
            self._here.take_in(served.target, event, reply, None)
        else:
            right(self, served, number, event, reply)

    return serve


@_plant("P2", Router, "_queue")
def refused_events_wait_behind(right: Any) -> Any:
    """What comes back is queued behind what came after it."""

    def queue(self: Router, route: Any, items: Any, *, in_front: bool = False) -> None:
        right(self, route, items)

    return queue


@_plant("P2", Served, "refuse")
def only_one_event_is_refused(right: Any) -> Any:
    """What was sent behind a refused event is taken in."""

    def refuse(self: Served, numbers: Any, owner: int) -> None:
        right(self, numbers, owner)
        self._is_refused = False

    return refuse


@_plant("P2", Activation, "give_back")
def held_events_in_reverse(right: Any) -> Any:
    """What an actor that leaves held back goes on in the wrong order."""

    def give_back(self: Activation) -> list[Delivery]:
        return right(self)[::-1]  # type: ignore[no-any-return]

    return give_back
