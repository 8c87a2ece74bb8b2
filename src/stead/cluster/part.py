"""A node's part in a cluster: its engine, its channels and its membership, and the router over them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from stead.clock import sleep
from stead.cluster.balancing import Balancing
from stead.cluster.membership import Membership
from stead.cluster.peers import Peers
from stead.cluster.places import Places
from stead.cluster.reach import Reach
from stead.cluster.router import Router
from stead.cluster.wishes import Wishes
from stead.errors import Ambiguous, DurabilityLost, EngineFailed, Invalid, Unavailable
from stead.ids import ActorId
from stead.logic.placement import Wish
from stead.runtime import Dispatcher, Tasks
from stead.storage.membership import Member, SharedEngine

LOOK_S = 0.5  # how late a node is to notice whom it can speak to
AGAIN_S = 1.0  # after which a node that drains looks whether it has actors still
START_PAUSE_S = 0.5  # before a data service is started again
_PASSING = (Ambiguous, DurabilityLost, EngineFailed, Unavailable)  # of other nodes, and over once another has their actors

log = logging.getLogger("stead.cluster")


class ClusterPart:
    """Made of a shared engine, of channels that listen already, and of the membership that names their address.

    Give it to one node, whose engine is the same one.
    """

    here: Dispatcher  # both from the construction of the node on
    router: Router
    reach: Reach
    _balancing: Balancing

    def __init__(self, engine: SharedEngine, peers: Peers, membership: Membership) -> None:
        self.membership = membership
        self._engine = engine
        self._peers = peers
        self._tasks = Tasks()
        self._handing_over: asyncio.Task[None] | None = None
        self._is_fixed = engine.has_fixed_owners

    def elsewhere(self, wishes: Mapping[str, Wish], here: Dispatcher) -> Router:
        """The node's way to the others, whom it will tell what it runs. `wishes` says by unit where its actors should be."""
        self.here = here
        self.membership.info = msgspec.structs.replace(self.membership.info, units=here.units)
        self.reach = Reach(self._peers, self.membership, here.clock, has_shares=self._is_fixed)
        found = Wishes({} if self._is_fixed else wishes)
        places = Places(here, self._peers, self.membership, self.reach, found)
        self.router = Router(here, self._peers, places, self._engine, self.membership.lease)
        self._peers.on_channel = self._channel_opened
        self._balancing = Balancing(here, places, self.router.moving)
        return self.router

    async def start(self) -> None:
        """Join the cluster. Raises `EngineFailed` if the engine cannot be asked."""
        self.membership.watchers.append(self)
        await self.membership.start()
        self.here.number_turns_from(self.membership.incarnation)
        self._tasks.start(self._watch())

    @property
    def is_ready(self) -> bool:
        """Whether this node serves actors, its own and those of others."""
        return self.membership.incarnation != 0 and not self.reach.is_cut_off

    def start_beside(self, unit: str, begin: Callable[[], Awaitable[None]]) -> None:
        """`start_service` without waiting for it."""
        self._tasks.start(self.start_service(unit, begin))

    async def start_service(self, unit: str, begin: Callable[[], Awaitable[None]]) -> None:
        """Start a data service, again if the node of an actor that it asks fails meanwhile. What else it raises passes."""
        while True:
            try:
                await begin()
                return
            except _PASSING as exc:
                log.warning("%s could not be started and is tried again: %s", unit, exc)
            await sleep(START_PAUSE_S)

    async def drain(self, grace_s: float) -> None:
        """Give every actor to other nodes, and take in none any more."""
        await self.router.drain(grace_s)

    async def move(self, actor: ActorId, name: str) -> bool:
        """Give an actor to the node of that name. False if nobody has it. Raises `Unavailable` if there is no such node.

        `Invalid` if the manifest does not let the actor be there.
        """
        to = next((node for node in self.membership.candidates if node.name == name), None)
        if to is None:
            raise Unavailable(f"there is no live node {name!r}")
        wish = self.router.places.wishes.of(actor)
        if wish.is_strict and not wish.is_met(to):
            raise Invalid(f"{name} has not {wish}, and the manifest lets {actor.unit} be nowhere else")
        return await self.router.moving.move(actor, to.incarnation)

    def cut_off(self) -> None:
        """Send and take nothing any more."""
        self.router.close()

    async def close(self) -> None:
        """Leave the cluster. What this node owned is free at once, and the clients that are connected to it are sent away."""
        self.router.edges.send_away()
        self.router.close()
        await self.membership.close()
        await self._end()

    async def abandon(self) -> None:
        """Stop at once, as a crash would: the lease ends by itself."""
        await self.membership.abandon()
        await self._end()

    async def _watch(self) -> None:
        while True:
            await sleep(LOOK_S)
            is_newly_cut_off = self.reach.look()
            self.membership.is_cut_off = self.reach.is_cut_off
            if is_newly_cut_off:
                await self.router.moving.let_go()

    async def _end(self) -> None:
        await self._tasks.close()
        await self._peers.close()

    async def _hand_over(self) -> None:
        """Give every actor to others for as long as this node drains: one that could not be reached may come back."""
        while self.membership.is_draining:
            if self.membership.is_relieved:
                await self.router.moving.move_all()
            await sleep(AGAIN_S)

    def _channel_opened(self, is_listed: bool) -> None:
        """There is one more node to speak to."""
        if not is_listed:
            self.membership.outdated()
        self.router.places.look_again()

    # -- what the membership tells -------------------------------------------------------------------------------------------------

    def members_changed(self, members: Sequence[Member]) -> None:
        """There is another list of who is alive."""
        self._peers.become(self.membership.incarnation)
        self._peers.update(members)
        self.router.members_changed(members)
        if self.membership.is_draining and (self._handing_over is None or self._handing_over.done()):
            self._handing_over = self._tasks.start(self._hand_over())
        if not self._is_fixed:
            self._balancing.members_changed()

    def lease_lost(self) -> None:
        """Whatever is here may be another's."""
        self.router.lease_lost()

    async def rejoining(self) -> None:
        """The channels of the incarnation before are about to end."""
        await self.router.wind_up()
