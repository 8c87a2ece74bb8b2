"""Which node an event goes to: this one, or another by a channel; and what the others send to this one.

An event for an actor that is in memory here does not come by. For any other the router asks `Places` which node it should be, and
hands the event to this node's dispatcher, or to `Routes`, which sends it there. What peers begin to say goes to whom it concerns.

**One place.** While events for an actor are on their way to another node, it is not taken in here, for nobody.

**The lease.** A node that cannot renew its lease takes in no more actors, and in time gives up those it has: see `lease_lost`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from stead.clock import sleep
from stead.cluster import halls, moving, routes
from stead.cluster.conversation import Conversation, Deaf, Listener
from stead.cluster.edges import Edges
from stead.cluster.halls import Halls
from stead.cluster.membership import Lease
from stead.cluster.moving import Moving
from stead.cluster.peers import Peers
from stead.cluster.places import Places
from stead.cluster.route import Item, Route
from stead.cluster.routes import Routes
from stead.cluster.serving import Answering, Served
from stead.cluster.sockets import EdgeSocket
from stead.cluster.streams import Streams
from stead.cluster.wire import MALFORMED, ForActor, ForSockets, Gather, Leaving, Pull, decode_opening
from stead.errors import Invalid, Unavailable
from stead.events import Event, Handover, SocketEvent
from stead.ids import ActorId, parse_id
from stead.runtime import Delivery, Reply, Rest, Turn, Wire
from stead.storage.membership import Member, SharedEngine

FRESH_S = 0.5  # that an actor is left to who was said to have it, before this node claims it for others
FAREWELL_S = 3.0  # that another node may take to hear that this one stops
REJOIN_S = 0.25  # or that it goes on as another incarnation, which it is late with
_PROCESSES = 1 << 62
_QUIET_POLL_S = 0.01  # while the node stops


class Here(halls.Here, moving.Here, routes.Here, Protocol):
    """This node's dispatcher, as the router and its parts see it."""

    def runs(self, unit: str) -> bool: ...
    def give_up(self) -> None: ...


class Router:
    """One per node of a cluster. It is the runtime's `Elsewhere`."""

    def __init__(self, here: Here, peers: Peers, places: Places, engine: SharedEngine, lease: Lease) -> None:
        self.lease = lease
        self.places = places
        self.streams = Streams(peers, here.tasks)
        self.moving = Moving(here, self, peers, engine)
        self._here = here
        self._routes = Routes(here, places, peers, self.streams)
        self.edges = Edges(places, peers, here.rooms, here.tasks, here.chance.below(_PROCESSES))
        self.halls = self.edges.door = Halls(here, places, peers, self.edges.summon)
        peers.on_conversation = self._opened

    # -- what the dispatcher asks --------------------------------------------------------------------------------------------------

    def forward(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None:
        """An event for an actor that is not in memory here."""
        self.places.wishes.heard(target, event)
        route = self._routes.find(target)
        is_free = route is None or route.is_idle
        if route is not None and is_free and route.owner == self.me and not self.places.is_welcome(target):
            route.owner = 0  # it was here last; who is found to own it still is told so
        is_ours = isinstance(event, SocketEvent)  # the connection is in a room here
        # 0 is where nobody may take the actor, and who this node is without a lease.
        if is_ours or (is_free and (self._here.has(target) or self._routes.stop(target, route) == self.me != 0)):
            if is_free:
                self._routes.settle_here(route)
            self._here.take_in(target, event, reply, caller)
        else:
            self._routes.send(target, Item(event, reply))

    def returned(self, target: ActorId, deliveries: Sequence[Delivery], owner: int) -> None:
        """These have not run here."""
        refused: dict[Served, list[int]] = {}
        items = []
        for delivery in deliveries:
            if isinstance(delivery.reply, Answering):
                refused.setdefault(delivery.reply.served, []).append(delivery.reply.number)
            elif isinstance(delivery.reply, Item):
                items.append(delivery.reply)
            else:
                items.append(Item(delivery.event, delivery.reply))  # type: ignore[arg-type]
        for served, numbers in refused.items():
            served.refuse(numbers, owner)
        self._routes.returned(target, items, owner)

    def is_run(self, unit: str) -> bool:
        """Whether a node that can be asked has the code of an actor's unit."""
        return self.places.is_run(unit)

    def dissolved(self, actor: ActorId, rests: Sequence[Rest], owner: int) -> None:
        """What is left of the connections of an actor that is not here any more."""
        self.halls.dissolved(actor, rests, owner)

    async def gather(self, actor: ActorId, epoch: int) -> None:
        """Bring the connections of an actor here, before its first turn."""
        await self.halls.gather(actor, epoch)

    def admit_socket(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if a client of this node cannot be let in now."""
        self.edges.admit(handover)

    def open_socket(self, handover: Handover, wire: Wire) -> EdgeSocket:
        """A client has connected to this node."""
        self.places.wishes.hint(handover.actor, handover.location_hint)
        return self.edges.open(handover, wire)

    # -- what peers ask ------------------------------------------------------------------------------------------------------------

    def _opened(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        conversation.consumed(len(opening))
        try:
            opened = decode_opening(opening)
            if isinstance(opened, ForActor):
                return Served(self, peer, parse_id(opened.actor), conversation)
            if isinstance(opened, ForSockets):
                return self.halls.opened(peer, parse_id(opened.actor), opened, conversation)
            if isinstance(opened, Gather):
                return self.edges.called(peer, parse_id(opened.actor), conversation)
        except (MALFORMED, Invalid):
            conversation.abort()
            return Deaf()
        if isinstance(opened, Pull):
            return self.streams.pulled(opened, conversation)
        if isinstance(opened, Leaving):
            self.places.stopping(peer)
            self._routes.wind_down(peer)
        return self.moving.opened(opened, conversation)

    def serve(self, served: Served, number: int, event: Event, reply: Answering) -> None:
        """An event that a peer sent: its actor is taken in here, unless it is known to be elsewhere."""
        target = served.target
        route = self._routes.find(target)
        if self._may_take_in(target) and not self._has_just_heard(route) and not self._declines(target, served.peer):
            self._routes.settle_here(route)
            self._here.take_in(target, event, reply, None)
        else:
            served.refuse([number], 0 if route is None or route.owner == self.me else route.owner)

    def _may_take_in(self, target: ActorId) -> bool:
        """Whether somebody else's event for an actor may run here: none of this node's is on its way to another."""
        route = self._routes.find(target)
        can_run = self.places.is_accepting and self._here.runs(target.unit)
        return self._here.has(target) or (can_run and (route is None or route.is_idle))

    def _has_just_heard(self, route: Route | None) -> bool:
        """Whether an actor that is not here was said to be another's a moment ago: that one may be about to claim it."""
        if route is None or route.owner in {0, self.me} or self._here.has(route.target):
            return False
        return self._here.clock.elapsed_s() - route.refused_s < FRESH_S and self.places.may_own(route.owner)

    def _declines(self, target: ActorId, peer: int) -> bool:
        """Whether an actor is left to a node that should rather have it. Not again: who comes back was told that it is here."""
        if self._here.has(target) or self.places.is_welcome(target):
            return False
        wishes = self.places.wishes
        return wishes.of(target).is_strict or wishes.send_on(target, peer, self._here.clock.elapsed_s())

    # -- what moves ask ------------------------------------------------------------------------------------------------------------

    @property
    def me(self) -> int:
        return self.places.me

    def successor(self, target: ActorId, avoid: Collection[int]) -> int:
        """Who should have an actor instead of this node, 0 if nobody can."""
        return self.places.successor(target, avoid)

    async def warm(self, actor: ActorId) -> None:
        """Bring an actor into memory here, as its owner leaves it to this node."""
        if not self._may_take_in(actor):
            raise Unavailable(f"this node does not take {actor} now")
        self._routes.settle_here(self._routes.find(actor))
        await self._here.warm(actor)

    # -- what the node tells -------------------------------------------------------------------------------------------------------

    def members_changed(self, members: Sequence[Member]) -> None:
        """The list is another one: look again at what waits."""
        self.halls.members_changed()
        self.places.members_changed(members)

    def lease_lost(self) -> None:
        """The lease is over, or will be before it can be renewed: end every actor here."""
        self._here.give_up()

    async def wind_up(self) -> None:
        """Let the peers that can be reached send nothing more on these channels; what they had sent is refused by then."""
        await self.moving.say_farewell(self.places.connected(), REJOIN_S)

    async def drain(self, grace_s: float) -> None:
        """Give every actor to other nodes, and take in none any more.

        After it nothing that others sent is lost by closing, nor a response that streams to them, if that ends in time.
        """
        self.places.leave()
        until_s = self._here.clock.elapsed_s() + grace_s
        await self.moving.move_all(grace_s)
        await self.moving.say_farewell(sorted(self.places.staying()), FAREWELL_S)
        while not (self._routes.is_empty and self.streams.is_idle) and self._here.clock.elapsed_s() < until_s:
            await sleep(_QUIET_POLL_S)

    def close(self) -> None:
        """Nobody will answer any more."""
        self._routes.close()
        self.streams.close()
        self.edges.close()
