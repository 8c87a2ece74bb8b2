"""Which node to ask for an actor: who there is, who takes actors in, who can be reached, and where each is wished to be.

**Who has an actor.** The engine knows; nobody asks it first. Who was said to have it is asked, as far as that node may have it;
else the one that rendezvous hashing names among those where the actor is wished to be. That one claims the actor; if another owns
it the claim says who. So a wrong guess costs a step, never a second owner.

Here are questions only, and what this node and the others have said of their own end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from stead.cluster.membership import Membership
from stead.cluster.peers import Peers
from stead.cluster.reach import Reach
from stead.cluster.wishes import Wishes
from stead.ids import ActorId
from stead.logic.placement import ANYWHERE, Candidate
from stead.storage.membership import Member

RETRY_S = 0.5  # after which whoever waits for other members looks again


class Here(Protocol):
    """This node's dispatcher."""

    def has(self, actor: ActorId) -> bool: ...


class Places:
    """One per node of a cluster."""

    def __init__(self, here: Here, peers: Peers, membership: Membership, reach: Reach, wishes: Wishes) -> None:
        self.wishes = wishes
        self._here = here
        self._peers = peers
        self._membership = membership
        self._reach = reach
        self._is_leaving = False
        self._stopping: set[int] = set()  # nodes that said so
        self._news = asyncio.Event()  # replaced when it is set

    # -- who is there --------------------------------------------------------------------------------------------------------------

    @property
    def me(self) -> int:
        return self._membership.incarnation

    @property
    def lease_s(self) -> float:
        """How long a node that cannot be reached may own actors."""
        return self._membership.lease_s

    @property
    def lost_s(self) -> float:
        """How long this node has had no lease, or reached nobody."""
        return max(self._membership.absent_s, self._reach.cut_off_s)

    @property
    def is_accepting(self) -> bool:
        """Whether this node may take actors in."""
        return not self._is_leaving and self._membership.may_claim and not self._reach.is_cut_off

    def candidates(self) -> list[Candidate]:
        """The nodes that take actors in, as far as is known."""
        me, accepts, all_drain = self.me, self.is_accepting, not self._membership.has_takers

        def takes(node: Candidate) -> bool:
            return (all_drain or not node.is_draining) and self._reach.sees(node.incarnation)

        others = [node for node in self._membership.candidates if node.incarnation not in self._stopping]
        return [node for node in others if (accepts if node.incarnation == me else takes(node))]

    def is_run(self, unit: str) -> bool:
        """Whether a node that can be asked has the code of an actor's unit."""
        return any(node.runs(unit) for node in self.candidates())

    def others(self) -> list[int]:
        """The other nodes, as far as is known."""
        return [member.incarnation for member in self._membership.members() if member.incarnation != self.me]

    def staying(self) -> list[int]:
        """The other nodes but for those that stop."""
        return [incarnation for incarnation in self.others() if incarnation not in self._stopping]

    def connected(self) -> list[int]:
        """The other nodes to which there is a channel."""
        return [incarnation for incarnation in self.others() if self._peers.is_connected(incarnation)]

    async def wait_news(self) -> None:
        """Until there are other members, or one more can be spoken to; or a little later."""
        try:
            async with asyncio.timeout(RETRY_S):
                await self._news.wait()
        except TimeoutError:
            return

    # -- what is said of it --------------------------------------------------------------------------------------------------------

    def members_changed(self, members: Sequence[Member]) -> None:
        """The list is another one."""
        self._stopping.intersection_update(member.incarnation for member in members)
        self.look_again()

    def look_again(self) -> None:
        """Whoever waits for a place may find one now."""
        self._news.set()
        self._news = asyncio.Event()

    def leave(self) -> None:
        """This node takes no actors in any more."""
        self._is_leaving = True

    def stopping(self, incarnation: int) -> None:
        """A node takes no more events."""
        self._stopping.add(incarnation)

    # -- whom to ask for an actor --------------------------------------------------------------------------------------------------

    def stop(self, actor: ActorId, hint: int, avoid: Collection[int]) -> int:
        """Who should be asked for an actor next; `hint` was said to have it. 0: nobody can have it now."""
        return self.me if self._here.has(actor) else self.owner_or_guess(actor, hint, avoid)

    def owner_or_guess(self, actor: ActorId, owner: int, avoid: Collection[int]) -> int:
        """`stop`, of an actor that is not here."""
        return owner if owner and owner not in avoid and self.may_own(owner) else self._guess(actor, avoid)

    def may_own(self, incarnation: int) -> bool:
        """Whether a node can have actors, as far as is known."""
        if incarnation == self.me:
            return self.is_accepting
        return incarnation not in self._stopping and self._membership.member(incarnation) is not None

    def _guess(self, target: ActorId, avoid: Iterable[int]) -> int:
        """Who should have an actor that nobody has, 0 if nobody can."""
        node = self.wishes.home(target, self._able(target, avoid))
        return 0 if node is None else node.incarnation

    def successor(self, target: ActorId, avoid: Collection[int]) -> int:
        """Who should have an actor instead of this node, 0 if nobody can."""
        node = self.wishes.successor(target, self._membership.info.region, self._able(target, {self.me, *avoid}))
        return 0 if node is None else node.incarnation

    def _able(self, target: ActorId, avoid: Iterable[int]) -> list[Candidate]:
        return [node for node in self.candidates() if node.incarnation not in avoid and node.runs(target.unit)]

    def is_welcome(self, target: ActorId) -> bool:
        """Whether no node that can be reached should rather take an actor in than this one."""
        wish = self.wishes.of(target)
        if wish is ANYWHERE:
            return True
        own = next((node for node in self._membership.candidates if node.incarnation == self.me), None)
        if own is None or wish.is_met(own):
            return True
        better = (node for node in self.candidates() if wish.is_met(node))
        return not (wish.is_strict or any(self._peers.is_connected(node.incarnation) for node in better))

    def why_nowhere(self, target: ActorId) -> str:
        """Why events for an actor have found no node."""
        if self._membership.absent_s:
            return "this node has no lease at this moment, and takes no actors in meanwhile"
        wish = self.wishes.of(target)
        if wish.is_strict and not self._guess(target, ()):
            return f"no live node has {wish}, and the manifest lets it be nowhere else"
        if self._reach.is_cut_off:
            return "this node can reach no other one, and takes no actors in meanwhile"
        if self.is_run(target.unit):
            return "the node that has it cannot be reached"
        return f"no node that can be asked has the unit {target.unit!r}" if self.candidates() else "no node can take it"
