"""The owner's side of connections that live at edges: for each actor here a hall, with the guests of each edge.

**A hall opens once the actor is claimed**, and not before: an edge that comes earlier waits at the door. If the claim shows another
owner, or the actor leaves, every edge is told where to go on, and what of its messages has not begun.

**The first turn waits** until the edges that have connections of the actor have told them, for GATHER_S at the most: what is sent
to all goes to all. Nobody needs to be asked about an actor that nobody had before.

**An edge that is out of reach is not gone**: what it is sent is kept for it, and its connections stay, until the membership says
that it is over. Then they end with 1006.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from stead.cluster.conversation import Conversation, Listener
from stead.cluster.far_edge import FarEdge
from stead.cluster.guests import Guest, Guests
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.sides import EdgeSide
from stead.cluster.wire import ForSockets, Gather, encode
from stead.cluster.words import Remainder
from stead.ids import ActorId, Chance
from stead.runtime import Rest, Rooms, Tasks

GATHER_S = 1.0  # that the first turn of a new owner waits for connections
CONNECT_S = 0.25  # of that, for channels that are not up: a node that has just started has none, one that died keeps none
LOST_MAX = 100_000  # edges by session that are remembered, should they turn out to be alive
_SESSIONS = 1 << 62

log = logging.getLogger("stead.cluster")


class Here(Protocol):
    """This node's dispatcher."""

    chance: Chance
    rooms: Rooms
    tasks: Tasks

    def has(self, actor: ActorId) -> bool: ...
    def is_claimed(self, actor: ActorId) -> bool: ...
    async def warm(self, target: ActorId) -> None: ...


class Places(Protocol):
    """The nodes, as far as is known."""

    @property
    def me(self) -> int: ...
    @property
    def is_accepting(self) -> bool: ...
    def others(self) -> list[int]:
        """The other nodes, as far as is known."""
        ...


class Hall:
    """The edges of one actor that is here, or may be."""

    def __init__(self, actor: ActorId, session: int, rooms: Rooms, halls: Halls) -> None:
        self.actor = actor
        self.session = session
        self.rooms = rooms
        self.edges: dict[int, Guests] = {}
        self.is_claiming = False
        self._halls = halls
        self._news = asyncio.Event()  # replaced when it is set

    def knock(self, guests: Guests) -> None:
        self._halls.knock(self, guests)

    def check_admits(self, id: str) -> None:
        room = self.rooms.find(self.actor)
        if room is not None:
            room.check_admits(id)

    def welcome(self) -> None:
        """The actor is here: let in who waits at the door."""
        for guests in list(self.edges.values()):
            if not guests.is_welcome:
                guests.is_welcome = True
                guests.edge.welcome(self.session)

    def moved(self, owner: int, rests: Iterable[Rest]) -> None:
        """The actor is elsewhere."""
        remainders: dict[Guests, list[Remainder]] = {}
        for rest in rests:
            assert isinstance(rest.seat, Guest)
            guests = rest.seat.guests
            remainders.setdefault(guests, []).append(guests.remainder(rest))
        edges, self.edges = self.edges, {}
        for guests in edges.values():
            guests.edge.moved(owner, remainders.get(guests, []))
        self.news()

    def leave(self, guests: Guests) -> None:
        if self.edges.get(guests.edge_id) is guests:
            del self.edges[guests.edge_id]
            self.news()
            if not self.edges:
                self._halls.forget(self)

    def news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait_complete(self) -> None:
        """Until every edge that is within reach has told its connections."""
        while any(not (guests.is_complete or guests.is_away) for guests in self.edges.values()):
            await self._news.wait()


class Halls:
    """The owner's side of a node. `summon` makes this node's own edge come."""

    def __init__(
        self, here: Here, places: Places, peers: Peers, summon: Callable[[ActorId, int], Coroutine[Any, Any, None]]
    ) -> None:
        self._here = here
        self._places = places
        self._peers = peers
        self._summon = summon
        self._halls: dict[str, Hall] = {}
        self._lost: dict[tuple[int, int], None] = {}  # the edges whose connections have ended, with the sessions; oldest first

    # -- edges come ----------------------------------------------------------------------------------------------------------------

    def enter(self, actor: ActorId, edge_id: int, edge: EdgeSide) -> Guests:
        """This node's own edge has connections of the actor: it hears more once it knocks."""
        hall = self._hall(actor)
        if edge_id in hall.edges:
            hall.edges[edge_id].withdraw()
        guests = hall.edges[edge_id] = Guests(hall, edge_id)
        guests.edge = edge
        return guests

    def knock(self, hall: Hall, guests: Guests) -> None:
        """Let an edge in, or tell it where to go."""
        if self._here.is_claimed(hall.actor):
            hall.welcome()
        elif not self._here.has(hall.actor) and not self._places.is_accepting:
            hall.leave(guests)
            guests.edge.moved(0, [])
        elif not hall.is_claiming:
            hall.is_claiming = True
            self._here.tasks.start(self._claim(hall))

    def opened(self, peer: int, actor: ActorId, opening: ForSockets, conversation: Conversation) -> Listener:
        """Another node's edge has connections of an actor that should be here."""
        hall = self._hall(actor)
        guests = hall.edges.get(opening.edge)
        if guests is not None and isinstance(guests.edge, FarEdge) and guests.is_welcome and hall.session == opening.session:
            guests.peer, guests.is_away = peer, False
            ear = guests.edge.attach(conversation)
            guests.edge.welcome_back(hall.session, opening.words)
            return ear
        if guests is not None:
            guests.withdraw()
        hall = self._hall(actor)
        guests = hall.edges[opening.edge] = Guests(hall, opening.edge)
        guests.peer = peer
        edge = guests.edge = FarEdge(guests)
        ear = edge.attach(conversation)
        if (opening.edge, opening.session) in self._lost:
            del self._lost[opening.edge, opening.session]
            hall.leave(guests)
            edge.ended()
        else:
            guests.knock()
        return ear

    async def _claim(self, hall: Hall) -> None:
        """Have the actor here. If it is another's, `dissolved` says so."""
        try:
            await self._here.warm(hall.actor)
        except Exception as exc:  # noqa: BLE001 - the application's on_start runs here
            log.debug("%s is not here: %s", hall.actor, exc)
        hall.is_claiming = False
        if self._here.is_claimed(hall.actor):
            hall.welcome()
            return
        for guests in [guests for guests in hall.edges.values() if not guests.is_welcome]:
            hall.leave(guests)
            guests.edge.moved(0, [])

    # -- what the runtime says -----------------------------------------------------------------------------------------------------

    def dissolved(self, actor: ActorId, rests: Sequence[Rest], owner: int) -> None:
        """The actor is elsewhere: `rests` is what is left of its connections."""
        hall = self._halls.pop(actor.text, None)
        if hall is not None:
            hall.moved(owner, rests)

    async def gather(self, actor: ActorId, epoch: int) -> None:
        """The actor is this node's since `epoch`. Returns once its connections are here, or after GATHER_S."""
        hall = self._halls.get(actor.text)
        if hall is not None:
            hall.welcome()
        try:
            async with asyncio.timeout(GATHER_S):
                if epoch > 1:
                    await self._call_in(actor)
                hall = self._halls.get(actor.text)
                if hall is not None:
                    await hall.wait_complete()
        except TimeoutError:
            log.warning("%s begins although not every node has told its connections", actor)

    async def _call_in(self, actor: ActorId) -> None:
        """Make every edge that has connections of the actor come here."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._summon(actor, self._places.me))
            for peer in self._places.others():
                tasks.create_task(self._call(actor, peer))

    async def _call(self, actor: ActorId, peer: int) -> None:
        if not self._peers.is_connected(peer) and not await self._peers.wait_connected(peer, CONNECT_S):
            return
        answered = _Answered()
        try:
            self._peers.open(peer, encode(Gather(actor.text)), answered).end()
        except Unreachable:
            return
        await answered.over.wait()

    # -- what the membership says --------------------------------------------------------------------------------------------------

    def members_changed(self) -> None:
        """End what edges that are over had."""
        members = {self._places.me, *self._places.others()}
        for hall in list(self._halls.values()):
            for guests in list(hall.edges.values()):
                if guests.is_away and guests.peer not in members:
                    self._lost[guests.edge_id, hall.session] = None
                    guests.lose()
        while len(self._lost) > LOST_MAX:
            del self._lost[next(iter(self._lost))]

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _hall(self, actor: ActorId) -> Hall:
        hall = self._halls.get(actor.text)
        if hall is None:
            session = 1 + self._here.chance.below(_SESSIONS)
            hall = self._halls[actor.text] = Hall(actor, session, self._here.rooms, self)
        return hall

    def forget(self, hall: Hall) -> None:
        if self._halls.get(hall.actor.text) is hall:
            del self._halls[hall.actor.text]


class _Answered:
    """Hears that a peer has done what it was asked: it ends the conversation."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def received(self, payload: bytes) -> None:
        return

    def ended(self) -> None:
        self.over.set()

    def lost(self) -> None:
        self.over.set()
