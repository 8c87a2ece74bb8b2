"""Planted bugs of what several nodes do together, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from typing import Any

from stead.cluster import Lease, Membership
from stead.ids import ActorId
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


@_plant("P1", Membership, "_trust")
def lease_from_the_answer(right: Any) -> Any:
    """The lease is counted from the moment in which the engine answered."""

    def trust(self: Membership, asked_s: float) -> None:
        right(self, self._clock.elapsed_s())

    return trust
