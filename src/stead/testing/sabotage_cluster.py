"""Planted bugs of what several nodes do together, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from stead.clock import sleep
from stead.cluster import Balancing, Lease, balancing
from stead.cluster.router import Router
from stead.cluster.routes import Routes
from stead.cluster.serving import Answering, Served
from stead.events import Event
from stead.ids import ActorId
from stead.logic.placement import Candidate, Wish, rendezvous
from stead.runtime.activation import Activation
from stead.runtime.gate import Gate, LeasedGate
from stead.runtime.turn import Delivery
from stead.storage.contract import Commit
from stead.storage.membership import LeaseLost
from stead.storage.shared import SharedMemoryEngine
from stead.testing.planting import Plant, planting

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


@_plant("P2", Routes, "lost")
def sent_again_after_a_loss(right: Any) -> Any:
    """What was under way when a line was lost is sent again, whether it may have run or not."""

    def lost(self: Routes, route: Any, items: Any, by: int) -> None:
        self._queue(route, list(items), in_front=True)

    return lost


@_plant("P2", Router, "serve")
def refused_and_run(right: Any) -> Any:
    """A node that takes no actors in says so, and takes this one in."""

    def serve(self: Router, served: Served, number: int, event: Event, reply: Answering) -> None:
        if not self._here.has(served.target) and not self.places.is_accepting:
            served.refuse([number], 0)
            self._here.take_in(served.target, event, reply, None)
        else:
            right(self, served, number, event, reply)

    return serve


@_plant("P2", Router, "serve")
def taken_in_while_events_are_elsewhere(right: Any) -> Any:
    """An actor is claimed for a peer while own events for it are on their way to another node."""

    def serve(self: Router, served: Served, number: int, event: Event, reply: Answering) -> None:
        if self.places.is_accepting:
            self._here.take_in(served.target, event, reply, None)
        else:
            right(self, served, number, event, reply)

    return serve


@_plant("P2", Routes, "_queue")
def refused_events_wait_behind(right: Any) -> Any:
    """What comes back is queued behind what came after it."""

    def queue(self: Routes, route: Any, items: Any, *, in_front: bool = False) -> None:
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


# -- balance: a newcomer gets its share, and nothing else moves --------------------------------------------------------------------


@_plant("balance", Balancing, "_wait_turn")
def everything_moves_at_once(right: Any) -> Any:
    """Moves do not wait for their turn."""

    async def wait_turn(self: Balancing) -> None:
        await sleep(0)

    return wait_turn


@_plant("balance", balancing, "SETTLE_S")
def moving_while_members_flap(right: Any) -> Any:
    """Nobody waits until the members have settled."""
    return 0.0


@_plant("balance", balancing, "moves")
def everything_moves_to_the_newcomer(right: Any) -> Any:
    """Whatever its home is, an actor goes to who is new."""

    def moves(actors: Iterable[tuple[str, Wish]], own: Candidate, candidates: Any, newcomers: Collection[int]) -> Any:
        others = set(newcomers) - {own.incarnation}
        return [(actor, to) for actor, _ in actors for to in others]

    return moves


@_plant("balance", balancing, "moves")
def homes_without_oneself(right: Any) -> Any:
    """The home of an actor is looked for among the other nodes."""

    def moves(actors: Iterable[tuple[str, Wish]], own: Candidate, candidates: Sequence[Candidate], newcomers: Any) -> Any:
        others = [node for node in candidates if node is not own]
        homes = [(actor, rendezvous(actor, others, wish)) for actor, wish in actors]
        return [(actor, home.incarnation) for actor, home in homes if home is not None]

    return moves


@_plant("balance", balancing, "hottest_first")
def coldest_first(right: Any) -> Any:
    """The order is upside down."""
    return lambda now, before: right(now, before)[::-1]
