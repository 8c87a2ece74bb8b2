"""Several nodes over one engine: who there is, whose lease holds, and who owns what.

A node *joins* under a random number, its *incarnation*, and with it owns actors. Its *lease* says until when, on the engine's own
clock; no node's clock is ever compared. While the lease of an actor's owner holds, nobody else can claim the actor. Once it is
over, whoever claims first is the owner, and a larger epoch refuses the earlier one for ever: the lease decides when an actor may
change hands, the epoch that two hands never write.

**Claims.** `claim` succeeds if the actor has no owner, if the caller is the owner, or if the owner has no live lease; else it
raises `OwnedElsewhere`. It sets the owner and raises the epoch. `commit` applies what carries the present epoch of an actor that
the caller's incarnation owns; a node that joined anew owns nothing of what it owned before. `release` leaves the actor without
owner.

**Alarms.** An alarm is its actor's owner's to fire. One whose actor nobody alive owns is an *orphan*: the live nodes, by
incarnation, share the orphans by their actors' slices (`stead.logic.placement`), so each alarm is exactly one live node's. A node
that says that it is cut off from the others has no share: it could bring no actor to where others reach it.

**Generations.** A database that failed over to a copy may have lost the last claims and commits. What was claimed before a failover
commits no more: it has to be claimed again, and a `Claim` tells of which generation it is. And nobody's lease outlasts it: `renew`
raises `LeaseLost`, so that what an owner remembers and the database has lost is not shown for longer than a lease.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from stead.errors import EngineFailed
from stead.ids import ActorId
from stead.storage.contract import Engine


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node says of itself when it joins."""

    name: str  # unique among live nodes: who starts under it ends the lease of the one before
    address: str  # of its channel, "host:port"
    url: str = ""  # of its public HTTP
    region: str = ""
    labels: dict[str, str] = {}
    application: str = ""  # a digest of manifest and version: nodes that differ in it are told apart
    units: tuple[str, ...] = ()  # whose actors it can run; none: it does not say


class Member(msgspec.Struct, frozen=True):
    """A live node, as the engine knows it."""

    incarnation: int
    info: NodeInfo
    is_draining: bool
    lease_left_s: float  # when the engine answered, by its clock
    is_cut_off: bool = False  # it said so


class LeaseLost(Exception):
    """This incarnation is over: whatever it owned may be another's. The node joins anew; no user ever sees it."""


class NameTaken(Exception):
    """A live node has the name: another process was started in this one's place."""


class EngineAway(EngineFailed):
    """An engine cannot be opened because its medium is not there, or has no room for one more: at another moment it may."""


class SharedEngine(Engine, Protocol):
    """An engine under several nodes; each opens its own. Every method raises `EngineFailed` when the medium fails."""

    @property
    def incarnation(self) -> int:
        """A positive number below 2**62 from `join` on; 0 before it and after `leave`, when `claim` raises `LeaseLost`."""
        ...

    @property
    def has_fixed_owners(self) -> bool:
        """Whether who owns an actor follows from its id, so that no actor ever goes from one node to another."""
        ...

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        """Become a node under a new incarnation, with a lease from now.

        A live one of the same name is over, and all it owned free: that is how a process that starts replaces one that hangs. Where
        not `takes_name`, which is for the one that wakes again, it raises `NameTaken` and nothing has changed. That one drains if
        its last incarnation is marked; where nothing is left of that, and for who starts, `is_draining` says.

        A join that raises `EngineFailed` may have been done all the same: the next one of this engine replaces it as it does its
        last life.
        """
        ...

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        """Prolong the lease to `lease_s` from the engine's now, and return who is alive, this node too, by incarnation.

        `is_cut_off` says whether no other node reaches this one; None: as this incarnation said last, if it did. One round trip.
        Raises `LeaseLost` if the lease is over already, another has joined under the name, or the database has failed over since
        the node joined.
        """
        ...

    async def leave(self) -> None:
        """End the lease now: all that this node owned is free. Without a lease it does nothing."""
        ...

    async def set_draining(self, name: str, is_draining: bool) -> bool:
        """Mark the live node of that name, for all to see. False if there is none."""
        ...

    async def owner(self, actor: ActorId) -> int | None:
        """The incarnation that owns `actor`, None if nobody alive does."""
        ...

    async def owned(self, incarnation: int | None = None) -> dict[int, int]:
        """How many actors each live node owns, 0 too; with `incarnation` of that one only (empty if it is not alive)."""
        ...
