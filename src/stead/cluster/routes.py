"""The events of this node that are for actors elsewhere: on their way, waiting for one, or coming back.

**Waiting.** A node that cannot be reached may be dead, or only out of reach: it owns its actors until its lease is over. Events
wait for that, in their order, and are refused as `Unavailable` once it should have ended. Their number and size are bounded. A node
that has no lease itself, or reaches nobody, cannot take part in that: whoever asks it waits only for its return, and not for long.

**One place.** While events for an actor are on their way to another node its route is not idle, and the actor is not taken in here:
what comes for it is sent after them. Else it could overtake what comes back.

Where an actor may be is asked of `Places`; what one route and its line are is in `route.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from stead.clock import Clock, sleep
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.route import Item, Line, Route, lost_error
from stead.cluster.streams import RemoteResponse, Streams
from stead.cluster.wire import Answer, Done, Failed, Flowing, ForActor, HandedOver, Whole, encode, handover_of
from stead.errors import Overloaded, Unavailable
from stead.events import Event, Fetch
from stead.ids import ActorId
from stead.runtime import Reply, Tasks, Turn, WholeResponse, unpacked

ROUTES_MAX = 10_000  # remembered ways to actors: each is a conversation of some hundred bytes on either side
ROUTE_EVENTS_MAX = 2_000  # on their way to one actor or waiting for its node: a mailbox, and what waits for commits
EVENTS_MAX = 50_000  # under way or waiting, of the whole node
EVENTS_BYTES_MAX = 256 * 1024 * 1024  # and what is in them: eight of the largest
RETRY_S = 0.25  # before a node that cannot be reached is doubted
PATIENCE_S = 2.0  # beyond a lease: until the others have seen that it is over
RETURN_S = 2.0  # in which a node that has lost its lease, or touch with all others, is waited for
REDIRECTS_MAX = 32  # of one event
REDIRECTS_AT_ONCE = 2  # further ones wait a little, doubling
LATELY_S = 2.0  # in which refusals count together
_PAUSE_S, _PAUSE_S_MAX = 0.01, 0.5
_STOPPING = "the node is stopping; try again"


class Here(Protocol):
    """This node's dispatcher, as what waits for actors sees it."""

    clock: Clock
    tasks: Tasks

    def take_in(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None: ...
    def is_repeatable(self, target: ActorId, event: Event) -> bool: ...


class Places(Protocol):
    """Where actors are, as far as is known."""

    @property
    def me(self) -> int: ...
    @property
    def lease_s(self) -> float: ...
    @property
    def lost_s(self) -> float:
        """How long this node has had no lease, or reached nobody."""
        ...

    def owner_or_guess(self, actor: ActorId, owner: int, avoid: Collection[int]) -> int:
        """Who should be asked for an actor that is not here; `owner` was said to have it. 0: nobody can have it now."""
        ...

    def why_nowhere(self, target: ActorId) -> str:
        """Why events for an actor have found no node."""
        ...

    async def wait_news(self) -> None:
        """Until there are other members, or one more can be spoken to; or a little later."""
        ...


class Routes:
    """One per node of a cluster: the ways to actors that are elsewhere, and who hears what their lines report."""

    def __init__(self, here: Here, places: Places, peers: Peers, streams: Streams) -> None:
        self._here = here
        self._places = places
        self._peers = peers
        self._streams = streams
        self._routes: OrderedDict[str, Route] = OrderedDict()  # by id, the one used last at the end
        self._events = self._bytes = 0
        self._is_closed = False

    # -- what the router asks ------------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether no event is under way."""
        return not self._events

    def find(self, target: ActorId) -> Route | None:
        """The way to an actor, if there is one."""
        return self._routes.get(target.text)

    def stop(self, target: ActorId, route: Route | None) -> int:
        """Where events for an actor go next; 0 if nobody may take it."""
        if route is None:
            return self._places.owner_or_guess(target, 0, ())
        if route.line is not None:
            return route.line.owner
        found = self._places.owner_or_guess(target, route.owner, route.avoid)
        if not found:
            route.avoid.clear()
        return found

    def settle_here(self, route: Route | None) -> None:
        """The actor is taken in here, unless something is on its way to another node: it is here then already."""
        if route is not None and route.is_idle:
            route.close()
            route.owner = self._places.me

    def send(self, target: ActorId, item: Item) -> None:
        """Send an event after those that are on their way to its actor; one too many, or at the end, is refused."""
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

    def returned(self, target: ActorId, items: Sequence[Item], owner: int) -> None:
        """These have not run here, for `owner` has the actor; 0: nobody knows."""
        if self._is_closed:
            for item in items:
                item.set_exception(Unavailable(_STOPPING))
        elif owner or items:
            route = self._route(target)
            for item in items:
                self._begun(item)
            self.refused(route, items, self._places.me, owner)

    def wind_down(self, incarnation: int) -> None:
        """Send a node nothing more; what it has is answered still."""
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

    # -- what waits ----------------------------------------------------------------------------------------------------------------

    def _queue(self, route: Route, items: Sequence[Item], *, in_front: bool = False) -> None:
        """Let events wait for a way, those that came back in front, and send what can be sent."""
        now_s = self._here.clock.elapsed_s()
        for item in items:
            if not item.until_s or now_s - item.left_s > PATIENCE_S:  # it was accepted somewhere, and has waited there
                item.until_s = now_s + self._places.lease_s + PATIENCE_S
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
        line, stop = route.line, self.stop(route.target, route)
        if stop == 0 or (line is not None and line.is_closing):
            return False
        if stop == self._places.me:
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

    def _take_in(self, route: Route) -> None:
        items = list(route.waiting)
        route.waiting.clear()
        self.settle_here(route)
        for item in items:
            item.left_s = self._here.clock.elapsed_s()
            self._ended(item)
            self._here.take_in(route.target, item.event, item, None)

    async def _seek(self, route: Route) -> None:
        """Find a way for what waits, as long as it may wait."""
        try:
            if route.refusals > REDIRECTS_AT_ONCE:
                await sleep(min(_PAUSE_S * 2 ** (route.refusals - REDIRECTS_AT_ONCE), _PAUSE_S_MAX))
            while self._expire(route) and not self._send(route):
                stop = self.stop(route.target, route)
                if stop in {0, self._places.me} or route.line is not None:
                    await self._places.wait_news()
                elif not await self._peers.wait_connected(stop, RETRY_S):
                    route.avoid.add(stop)
        finally:
            route.is_seeking = False
        if route.waiting:
            self._advance(route)

    def _expire(self, route: Route) -> bool:
        """Refuse what has waited too long. Returns whether anything waits still."""
        now_s, is_lost = self._here.clock.elapsed_s(), self._places.lost_s > RETURN_S
        while route.waiting and (is_lost or route.waiting[0].until_s <= now_s or route.waiting[0].redirects > REDIRECTS_MAX):
            why = self._places.why_nowhere(route.target)
            self.settled(route.waiting.popleft(), Unavailable(f"{route.target}: {why}; nothing ran, try again"))
        if not route.waiting and route.line is None:
            self._forget(route)
        return bool(route.waiting)

    # -- which ways are known ------------------------------------------------------------------------------------------------------

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

    def _forget(self, route: Route) -> None:
        if self._routes.get(route.target.text) is route:
            del self._routes[route.target.text]
            route.close()

    # -- what lines report ---------------------------------------------------------------------------------------------------------

    def token(self, item: Item) -> int:
        if isinstance(item.event, Fetch) and not item.token:
            item.token = self._streams.offer_request(item.event.receive)
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
                self._streams.expire(item.token)
                item.set_result(RemoteResponse(self._streams, line.owner, token, status, headers))
                return
        self._streams.withdraw(item.token)

    def settled(self, item: Item, error: BaseException) -> None:
        self._ended(item)
        self._streams.withdraw(item.token)
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

    def lost(self, route: Route, items: Iterable[Item], by: int) -> None:
        """A line was lost: what does no harm twice is sent again, the rest may have run.

        To somebody else first: that one's claim finds out whether the actor is where it was sent.
        """
        route.avoid.add(by)
        route.refusals = 0  # those were of before
        again = []
        for item in items:
            pulled = isinstance(item.event, Fetch) and not self._streams.is_offered(item.token)
            if not (pulled or self._is_closed) and self._here.is_repeatable(route.target, item.event):
                item.may_have_run = True
                again.append(item)
            else:
                self.settled(item, lost_error())
        if again:
            self._queue(route, again, in_front=True)
        elif route.is_idle:
            self._forget(route)

    # -- how much is under way -----------------------------------------------------------------------------------------------------

    def _begun(self, item: Item) -> None:
        self._events += 1
        self._bytes += item.size_bytes

    def _ended(self, item: Item) -> None:
        self._events -= 1
        self._bytes -= item.size_bytes
