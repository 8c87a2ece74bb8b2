"""Which node an event goes to: this one, or another by a channel.

**Who has an actor.** The engine knows; nobody asks it first. An event for an actor that is not in memory here goes to the node that
had it last, as far as this one heard, else to the node that rendezvous hashing names among those where the actor is wished to be.
That one claims the actor; if another owns it the claim says who, and the event comes back with that address. So a wrong guess costs
a step, never a second owner.

**One place.** While events for an actor are on their way to another node, it is not taken in here, and who asks for it is sent
after them. Else what is sent now could overtake what comes back.

**Waiting.** A node that cannot be reached may be dead, or only out of reach: it owns its actors until its lease is over. Events
wait for that, in their order, and are refused as `Unavailable` once it should have ended. Their number and size are bounded. A node
that has no lease itself, or reaches nobody, cannot take part in that: whoever asks it waits only for its return, and not for long.

**The lease.** A node that cannot renew its lease takes in no more actors, and in time gives up those it has: see `lost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from stead.clock import Clock, sleep
from stead.cluster.conversation import Conversation, Deaf, Listener
from stead.cluster.membership import Membership
from stead.cluster.moving import Moving
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.reach import Reach
from stead.cluster.rooms import Halls
from stead.cluster.route import Item, Line, Route, lost_error
from stead.cluster.serving import Answering, Served
from stead.cluster.sockets import Edges, EdgeSocket
from stead.cluster.streams import RemoteResponse, Streams
from stead.cluster.wire import (
    MALFORMED,
    Answer,
    Done,
    Failed,
    Flowing,
    ForActor,
    ForSockets,
    Gather,
    HandedOver,
    Leaving,
    Pull,
    Whole,
    decode_opening,
    encode,
    handover_of,
)
from stead.cluster.wishes import Wishes
from stead.errors import Overloaded, Unavailable
from stead.events import Event, Fetch, Handover, SocketEvent
from stead.ids import ActorId, Chance, parse_id
from stead.logic.placement import ANYWHERE, Candidate
from stead.runtime import Delivery, Reply, Rest, Rooms, Tasks, Turn, WholeResponse, Wire, unpacked
from stead.storage.membership import Member, SharedEngine

ROUTES_MAX = 10_000  # remembered ways to actors: each is a conversation of some hundred bytes on either side
ROUTE_EVENTS_MAX = 2_000  # on their way to one actor or waiting for its node: a mailbox, and what waits for commits
EVENTS_MAX = 50_000  # under way or waiting, of the whole node
EVENTS_BYTES_MAX = 256 * 1024 * 1024  # and what is in them: eight of the largest
RETRY_S = 0.5  # before a node that cannot be reached is doubted
PATIENCE_S = 2.0  # beyond a lease: until the others have seen that it is over
RETURN_S = 2.0  # in which a node that has lost its lease, or touch with all others, is waited for
REDIRECTS_MAX = 32  # of one event
REDIRECTS_AT_ONCE = 2  # further ones wait a little, doubling
LATELY_S = 2.0  # in which refusals count together
FRESH_S = 0.5  # that an actor is left to who was said to have it, before this node claims it for others
_PROCESSES = 1 << 62
_PAUSE_S, _PAUSE_S_MAX = 0.01, 0.5
_QUIET_POLL_S = 0.01  # while the node stops
_STOPPING = "the node is stopping; try again"

log = logging.getLogger("stead.cluster")


class Here(Protocol):
    """This node's dispatcher."""

    clock: Clock
    chance: Chance
    rooms: Rooms
    tasks: Tasks

    def take_in(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None: ...
    def runs(self, unit: str) -> bool: ...
    def has(self, actor: ActorId) -> bool: ...
    def is_claimed(self, actor: ActorId) -> bool: ...
    def owned(self) -> list[ActorId]: ...
    def is_repeatable(self, target: ActorId, event: Event) -> bool: ...
    async def warm(self, target: ActorId) -> None: ...
    async def depart(self, actor: ActorId, to: int, grace_s: float) -> bool: ...
    def give_up(self) -> None: ...


class Router:
    """One per node of a cluster. It is the runtime's `Elsewhere`."""

    def __init__(
        self, here: Here, peers: Peers, membership: Membership, engine: SharedEngine, reach: Reach, wishes: Wishes
    ) -> None:
        self.lease = membership.lease
        self.wishes = wishes
        self.streams = Streams(peers, here.tasks)
        self.moving = Moving(here, self, peers, engine)
        self._here = here
        self._peers = peers
        self._membership = membership
        self._reach = reach
        self._routes: OrderedDict[str, Route] = OrderedDict()  # by id, the one used last at the end
        self._events = self._bytes = 0
        self._news = asyncio.Event()  # replaced when it is set: the members have changed
        self._is_leaving = self._is_closed = False
        self._stopping: set[int] = set()  # nodes that said so
        self.edges = Edges(self, peers, here.rooms, here.tasks, here.chance.below(_PROCESSES))
        self.halls = self.edges.door = Halls(here, self, peers, self.edges.summon)
        peers.on_conversation = self._opened

    # -- what the dispatcher asks --------------------------------------------------------------------------------------------------

    def forward(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None:
        """An event for an actor that is not in memory here."""
        self.wishes.heard(target, event)
        route = self._routes.get(target.text)
        is_free = route is None or route.is_idle
        if route is not None and is_free and route.owner == self.me and not self._is_welcome(target):
            route.owner = 0  # it was here last; who is found to own it still is told so
        is_ours = isinstance(event, SocketEvent)  # the connection is in a room here
        if is_ours or (is_free and (self._here.has(target) or self._stop(target, route) == self.me)):
            if is_free:
                self._settle_here(route)
            self._here.take_in(target, event, reply, caller)
            return
        item = Item(event, reply)
        if self._is_closed:
            item.set_exception(Unavailable(_STOPPING))
            return
        route = self._route(target)
        if route.size >= ROUTE_EVENTS_MAX or self._events >= EVENTS_MAX or self._bytes >= EVENTS_BYTES_MAX:
            item.set_exception(Overloaded(f"too many events wait for the node of {target}; try again later"))
            return
        self._begun(item)
        if route.line is not None and not route.waiting and not route.line.is_closing:
            item.left_s = self._here.clock.elapsed_s()
            route.line.send(item)
        else:
            self._queue(route, [item])

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
        self.wishes.hint(handover.actor, handover.location_hint)
        return self.edges.open(handover, wire)

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
        if self._is_closed:
            for item in items:
                item.set_exception(Unavailable(_STOPPING))
        elif owner or items:
            route = self._route(target)
            for item in items:
                self._begun(item)
            self.refused(route, items, self.me, owner)

    # -- who is there --------------------------------------------------------------------------------------------------------------

    @property
    def me(self) -> int:
        return self._membership.incarnation

    @property
    def is_accepting(self) -> bool:
        """Whether this node may take actors in."""
        return not self._is_leaving and self._membership.may_claim and not self._reach.is_cut_off

    def candidates(self) -> list[Candidate]:
        """The nodes that take actors in, as far as is known."""
        me, accepts = self.me, self.is_accepting
        others = [node for node in self._membership.candidates if node.incarnation not in self._stopping]
        return [node for node in others if (accepts if node.incarnation == me else self._takes(node))]

    def _takes(self, node: Candidate) -> bool:
        return not node.is_draining and self._reach.sees(node.incarnation)

    def is_run(self, unit: str) -> bool:
        """Whether a node that can be asked has the code of an actor's unit."""
        return any(node.runs(unit) for node in self.candidates())

    def _able(self, target: ActorId, avoid: Iterable[int]) -> list[Candidate]:
        return [node for node in self.candidates() if node.incarnation not in avoid and node.runs(target.unit)]

    def others(self) -> list[int]:
        """The other nodes, as far as is known."""
        return [member.incarnation for member in self._membership.members() if member.incarnation != self.me]

    def members_changed(self, members: Sequence[Member]) -> None:
        """The list is another one: look again at what waits."""
        self.halls.members_changed()
        self._stopping.intersection_update(member.incarnation for member in members)
        self._news.set()
        self._news = asyncio.Event()

    def lost(self, route: Route, items: Iterable[Item]) -> None:
        """A line was lost: what does no harm twice is sent again, the rest may have run."""
        again = []
        for item in items:
            pulled = isinstance(item.event, Fetch) and not self.streams.is_offered(item.token)
            if not (pulled or self._is_closed) and self._here.is_repeatable(route.target, item.event):
                item.may_have_run = True
                again.append(item)
            else:
                self.settled(item, lost_error())
        if again:
            self._queue(route, again, in_front=True)
        elif route.is_idle:
            self._forget(route)

    def lease_lost(self) -> None:
        """The lease is over, or will be before it can be renewed: end every actor here."""
        self._here.give_up()

    # -- leaving -------------------------------------------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Give every actor to other nodes, and take in none any more. After it nothing that others sent is lost by closing."""
        self._is_leaving = True
        until_s = self._here.clock.elapsed_s() + grace_s
        await self.moving.move_all(grace_s)
        known = {member.incarnation for member in self._membership.members()}
        await self.moving.say_farewell(sorted(known - {self.me, *self._stopping}))
        while self._events and self._here.clock.elapsed_s() < until_s:
            await sleep(_QUIET_POLL_S)

    def stopping(self, incarnation: int) -> None:
        """A node takes no more events."""
        self._stopping.add(incarnation)
        for route in [route for route in self._routes.values() if route.line is not None and route.line.owner == incarnation]:
            if route.is_idle:
                self._forget(route)
            elif route.line is not None:
                route.line.is_closing = True

    def close(self) -> None:
        """Nobody will answer any more."""
        self._is_closed = True
        routes = list(self._routes.values())
        self._routes.clear()
        for route in routes:
            while route.waiting:
                self.settled(route.waiting.popleft(), Unavailable(_STOPPING))
            if route.line is not None:
                route.line.conversation.abort()
                route.line.lost()
        self.streams.close()
        self.edges.close()

    # -- where to ------------------------------------------------------------------------------------------------------------------

    def _stop(self, target: ActorId, route: Route | None) -> int:
        """Where events for an actor go next; 0 if nobody may take it."""
        if route is None:
            return self.guess(target, ())
        if route.line is not None:
            return route.line.owner
        owner = route.owner
        if owner and owner not in route.avoid and self._may_own(owner):
            return owner
        found = self.guess(target, route.avoid)
        if not found:
            route.avoid.clear()
        return found

    def _may_own(self, incarnation: int) -> bool:
        if incarnation == self.me:
            return self.is_accepting
        return incarnation not in self._stopping and self._membership.member(incarnation) is not None

    def stop(self, actor: ActorId, hint: int, avoid: Collection[int]) -> int:
        """Who should be asked for an actor next; `hint` was said to have it. 0: nobody can have it now."""
        if self._here.has(actor):
            return self.me
        return hint if hint and hint not in avoid and self._may_own(hint) else self.guess(actor, avoid)

    def guess(self, target: ActorId, avoid: Iterable[int]) -> int:
        """Who should have an actor that nobody has, 0 if nobody can."""
        node = self.wishes.home(target, self._able(target, avoid))
        return 0 if node is None else node.incarnation

    def successor(self, target: ActorId, avoid: Collection[int]) -> int:
        """Who should have an actor instead of this node, 0 if nobody can."""
        node = self.wishes.successor(target, self._membership.info.region, self._able(target, {self.me, *avoid}))
        return 0 if node is None else node.incarnation

    def _is_welcome(self, target: ActorId) -> bool:
        """Whether no node that can be reached should rather take an actor in."""
        wish = self.wishes.of(target)
        if wish is ANYWHERE:
            return True
        own = next((node for node in self._membership.candidates if node.incarnation == self.me), None)
        if own is None or wish.is_met(own):
            return True
        better = (node for node in self.candidates() if wish.is_met(node))
        return not (wish.is_strict or any(self._peers.is_connected(node.incarnation) for node in better))

    def _queue(self, route: Route, items: Sequence[Item], *, in_front: bool = False) -> None:
        """Let events wait for a way, those that came back in front, and send what can be sent."""
        now_s = self._here.clock.elapsed_s()
        for item in items:
            if not item.until_s or now_s - item.left_s > PATIENCE_S:  # it was accepted somewhere, and has waited there
                item.until_s = now_s + self._membership.lease_s + PATIENCE_S
        if in_front:
            route.waiting.extendleft(reversed(items))
        else:
            route.waiting.extend(items)
        self._advance(route)

    def _advance(self, route: Route) -> None:
        if not route.is_seeking and not (route.refusals <= REDIRECTS_AT_ONCE and self._send(route)):
            route.is_seeking = True
            self._here.tasks.start(self._seek(route))

    def _send(self, route: Route) -> bool:
        """Send what waits, or take it in here; False if there is no way now."""
        self._drop_what_is_over(route)
        line, stop = route.line, self._stop(route.target, route)
        if stop == 0 or (line is not None and line.is_closing):
            return False
        if stop == self.me:
            self._take_in(route)
            return True
        if line is None:
            line = Line(self, route, stop)
            try:
                line.conversation = self._peers.open(stop, encode(ForActor(route.target.text)), line)
            except Unreachable:
                return False
            route.line, route.owner = line, stop
        while route.waiting and route.line is line:
            route.waiting[0].left_s = self._here.clock.elapsed_s()
            line.send(route.waiting.popleft())
        return not route.waiting

    def _drop_what_is_over(self, route: Route) -> None:
        for item in [item for item in route.waiting if item.is_over]:
            self._ended(item)
            route.waiting.remove(item)

    def _take_in(self, route: Route) -> None:
        items = list(route.waiting)
        route.waiting.clear()
        self._settle_here(route)
        for item in items:
            item.left_s = self._here.clock.elapsed_s()
            self._ended(item)
            self._here.take_in(route.target, item.event, item, None)

    def _settle_here(self, route: Route | None) -> None:
        """The actor is taken in here, unless something is on its way to another node: it is here then already."""
        if route is not None and route.is_idle:
            route.close()
            route.owner = self.me

    async def _seek(self, route: Route) -> None:
        """Find a way for what waits, as long as it may wait."""
        try:
            if route.refusals > REDIRECTS_AT_ONCE:
                await sleep(min(_PAUSE_S * 2 ** (route.refusals - REDIRECTS_AT_ONCE), _PAUSE_S_MAX))
            while self._expire(route) and not self._send(route):
                stop = self._stop(route.target, route)
                if stop in {0, self.me} or route.line is not None:
                    await self.wait_news()
                elif not await self._peers.wait_connected(stop, RETRY_S):
                    route.avoid.add(stop)
        finally:
            route.is_seeking = False
        if route.waiting:
            self._advance(route)

    def _expire(self, route: Route) -> bool:
        """Refuse what has waited too long. Returns whether anything waits still."""
        now_s, is_lost = self._here.clock.elapsed_s(), max(self._membership.absent_s, self._reach.cut_off_s) > RETURN_S
        while route.waiting and (is_lost or route.waiting[0].until_s <= now_s or route.waiting[0].redirects > REDIRECTS_MAX):
            self.settled(route.waiting.popleft(), Unavailable(f"{route.target}: {self._why(route)}; nothing ran, try again"))
        if not route.waiting and route.line is None:
            self._forget(route)
        return bool(route.waiting)

    def _why(self, route: Route) -> str:
        if self._membership.absent_s:
            return "this node has no lease at this moment, and takes no actors in meanwhile"
        wish = self.wishes.of(route.target)
        if wish.is_strict and not self.guess(route.target, ()):
            return f"no live node has {wish}, and the manifest lets it be nowhere else"
        if self._reach.is_cut_off:
            return "this node can reach no other one, and takes no actors in meanwhile"
        if self.is_run(route.target.unit):
            return "the node that has it cannot be reached"
        return f"no node that can be asked has the unit {route.target.unit!r}" if self.candidates() else "no node can take it"

    async def wait_news(self) -> None:
        """Until the members have changed, or a little later."""
        try:
            async with asyncio.timeout(RETRY_S):
                await self._news.wait()
        except TimeoutError:
            return

    # -- routes --------------------------------------------------------------------------------------------------------------------

    def _route(self, target: ActorId) -> Route:
        route = self._routes.get(target.text)
        if route is None:
            route = self._routes[target.text] = Route(target)
            self._drop_old()
        else:
            self._routes.move_to_end(target.text)
        return route

    def _drop_old(self) -> None:
        for _ in range(len(self._routes) - ROUTES_MAX):
            oldest = next(iter(self._routes.values()))
            if oldest.is_idle:
                self._forget(oldest)
            else:
                self._routes.move_to_end(oldest.target.text)

    def _forget(self, route: Route | None) -> None:
        if route is not None and self._routes.get(route.target.text) is route:
            del self._routes[route.target.text]
            route.close()

    # -- what lines report ---------------------------------------------------------------------------------------------------------

    def token(self, item: Item) -> int:
        if isinstance(item.event, Fetch) and not item.token:
            item.token = self.streams.offer_request(item.event.receive)
        return item.token

    def answered(self, line: Line, item: Item, answer: Answer) -> None:
        line.route.avoid.clear()
        self._ended(item)
        match answer:
            case Done(_, value):
                item.set_result(value)
            case Whole(_, status, headers, body):
                item.set_result(WholeResponse(body, status, headers))
            case HandedOver():
                item.set_result(handover_of(answer))
            case Failed(_, error):
                item.set_exception(unpacked(error))
            case Flowing(_, status, headers, token):
                self.streams.expire(item.token)
                item.set_result(RemoteResponse(self.streams, line.owner, token, status, headers))
                return
        self.streams.withdraw(item.token)

    def settled(self, item: Item, error: BaseException) -> None:
        self._ended(item)
        self.streams.withdraw(item.token)
        item.set_exception(error)

    def refused(self, route: Route, items: Sequence[Item], by: int, owner: int) -> None:
        route.owner = owner
        if owner:
            route.avoid.clear()
        else:
            route.avoid.add(by)
        now_s = self._here.clock.elapsed_s()
        route.refusals = 1 + (route.refusals if now_s - route.refused_s < LATELY_S else 0)
        route.refused_s = now_s
        for item in items:
            item.redirects += 1
        if items or route.waiting:
            self._queue(route, items, in_front=True)

    def _begun(self, item: Item) -> None:
        self._events += 1
        self._bytes += item.size_bytes

    def _ended(self, item: Item) -> None:
        self._events -= 1
        self._bytes -= item.size_bytes

    # -- what peers ask ------------------------------------------------------------------------------------------------------------

    def _opened(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        conversation.consumed(len(opening))
        try:
            opened = decode_opening(opening)
            if isinstance(opened, ForActor):
                return Served(self, peer, parse_id(opened.actor), conversation)
        except MALFORMED:
            conversation.abort()
            return Deaf()
        if isinstance(opened, ForSockets):
            return self.halls.opened(peer, opened, conversation)
        if isinstance(opened, Gather):
            return self.edges.called(peer, opened, conversation)
        if isinstance(opened, Pull):
            return self.streams.pulled(opened, conversation)
        if isinstance(opened, Leaving):
            self.stopping(peer)
        return self.moving.opened(opened, conversation)

    def serve(self, served: Served, number: int, event: Event, reply: Answering) -> None:
        """An event that a peer sent: its actor is taken in here, unless it is known to be elsewhere."""
        target = served.target
        route = self._routes.get(target.text)
        if self._may_take_in(target) and not self._has_just_heard(route) and not self._declines(target, served.peer):
            self._settle_here(route)
            self._here.take_in(target, event, reply, None)
        else:
            served.refuse([number], 0 if route is None or route.owner == self.me else route.owner)

    def _declines(self, target: ActorId, peer: int) -> bool:
        """Whether an actor is left to a node that should rather have it. Not again: who comes back was told that it is here."""
        if self._here.has(target) or self._is_welcome(target):
            return False
        return self.wishes.of(target).is_strict or self.wishes.send_on(target, peer, self._here.clock.elapsed_s())

    async def warm(self, actor: ActorId) -> None:
        """Bring an actor into memory here, as its owner leaves it to this node."""
        if not self._may_take_in(actor):
            raise Unavailable(f"this node does not take {actor} now")
        self._settle_here(self._routes.get(actor.text))
        await self._here.warm(actor)

    def _may_take_in(self, target: ActorId) -> bool:
        """Whether somebody else's event for an actor may run here: none of this node's is on its way to another."""
        route = self._routes.get(target.text)
        can_run = self.is_accepting and self._here.runs(target.unit)
        return self._here.has(target) or (can_run and (route is None or route.is_idle))

    def _has_just_heard(self, route: Route | None) -> bool:
        """Whether an actor that is not here was said to be another's a moment ago: that one may be about to claim it."""
        if route is None or route.owner in {0, self.me} or self._here.has(route.target):
            return False
        return self._here.clock.elapsed_s() - route.refused_s < FRESH_S and self._may_own(route.owner)
