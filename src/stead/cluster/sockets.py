"""The edge's side of connections: they stay with the node where they came in, whoever owns their actor.

```
 no owner ──a node is asked──► asked ──it has the actor──► attached ──it is lost, or the actor moves──► no owner
     ▲                           └──it has not───┐
     └───────────────────────────────────────────┘
```

Every connection of a clustered node is here, with all that the next owner would have to know. Attached, messages go to the owner as
they come, and wait here too until their turns are over. Not attached, they wait, and the client is not read meanwhile.

**An owner that moves away says what has begun.** The rest goes to the next one, in its order.
**An owner that dies says nothing.** What was handed to it may have been handled: it is dropped, and a client whose `on_connect` may
have run is sent away with 1012. An owner that was only out of reach is found again with all that it knew, and nothing is dropped.
**`on_close`** is asked for until an owner says that it has run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from stead.clock import sleep
from stead.cluster.conversation import Conversation, Deaf, Listener
from stead.cluster.far import FarGuests, Guests
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.wire import ForSockets, Gather, encode
from stead.cluster.words import Remainder
from stead.errors import Overloaded
from stead.events import Frame, Handover
from stead.ids import ActorId, parse_id
from stead.runtime import Kept, Rooms, Stay, Tasks, Wire, uri_of

MESSAGES_MAX = 64  # of one client that wait or have no answer: as many as its actor takes at once
MESSAGES_BYTES_MAX = 256 * 1024  # and what is in them; one message is always let through
LAST_WORD_S = 0.4  # that an owner gets for its last word, once another node has claimed the actor
RETRY_S = 0.5  # before a node that cannot be reached is doubted
_PAUSE_S, _PAUSE_S_MAX = 0.02, 1.0  # between questions who has the actor, doubling
RESTARTING = 1012
RETRY_AFTER_S = 5.0  # told to who finds too many others waiting
_AGAIN = "the server that had this connection was lost; connect again"


class Places(Protocol):
    """The router, as it knows where actors are."""

    @property
    def me(self) -> int: ...
    def stop(self, actor: ActorId, hint: int, avoid: Collection[int]) -> int:
        """Who should be asked for an actor next; `hint` was said to have it. 0: nobody can have it now."""
        ...

    async def wait_news(self) -> None:
        """Until the members have changed, or a little later."""
        ...


class Entrance(Guests, Protocol):
    """The owner on this very node."""

    def knock(self) -> None:
        """Ask to be let in: the edge can hear the answer now, at once perhaps."""
        ...


class Door(Protocol):
    """This node's own halls."""

    def enter(self, actor: ActorId, edge_id: int, edge: EdgeRoom) -> Entrance:
        """The edge has connections of the actor, which should be here."""
        ...


class EdgeSocket:
    """One client: the receiver of its connection."""

    __slots__ = (
        "_bytes",
        "_is_held",
        "_is_paused",
        "_messages",
        "_room",
        "ending",
        "handled",
        "id",
        "is_handed",
        "is_opened",
        "kept",
        "number",
        "scope",
        "sent",
        "tags",
        "uri",
        "wire",
    )

    def __init__(self, room: EdgeRoom, number: int, id: str, uri: str, scope: dict[str, Any], wire: Wire) -> None:
        self._room = room
        self.number = number
        self.id = id
        self.uri = uri
        self.scope: dict[str, Any] | None = scope  # until `on_connect` has run
        self.wire = wire
        self.tags: Sequence[str] = ()
        self.kept = Kept()
        self.is_handed = False  # an owner knows of it
        self.is_opened = False  # its `on_connect` has run
        self.ending: tuple[int, str, Exception | None] | None = None
        self.handled = 0  # messages that need not be kept any more
        self.sent = 0  # that were handed to an owner
        self._messages: deque[str | bytes] = deque()  # behind those that were handled
        self._bytes = 0
        self._is_paused = self._is_held = False

    # -- the receiver --------------------------------------------------------------------------------------------------------------

    def message(self, data: str | bytes) -> None:
        if self.ending is None:
            self._messages.append(data)
            self._bytes += len(data)
            self._room.speak(self)
            self.settle()

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        if self.ending is None:
            self.ending = code, reason, error
            self._room.say_left(self)

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def unsent(self) -> list[tuple[int, str | bytes]]:
        """What was not handed to the owner, with its numbers; now it is."""
        first, self.sent = self.sent, self.handled + len(self._messages)
        return [(number, self._messages[number - self.handled - 1]) for number in range(first + 1, self.sent + 1)]

    def forget(self, message: int) -> None:
        """Keep no message up to this one any more."""
        while self.handled < message and self._messages:
            self._bytes -= len(self._messages.popleft())
            self.handled += 1
        self.sent = max(self.sent, self.handled)

    def hold(self, is_held: bool) -> None:
        self._is_held = is_held
        self.settle()

    def settle(self) -> None:
        """Read the client while its messages have somewhere to go."""
        is_full = len(self._messages) >= MESSAGES_MAX or self._bytes >= MESSAGES_BYTES_MAX
        is_paused = is_full or self._is_held or not self._room.is_attached
        if is_paused is not self._is_paused and self.ending is None:
            self._is_paused = is_paused
            (self.wire.pause if is_paused else self.wire.resume)()

    # -- its end -------------------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Close the connection, as the owner wants it."""
        if self.ending is None:
            self.ending = code, reason, None
            self.wire.close(code, reason)


class EdgeRoom:
    """The connections of this node to one actor, and the way to its owner."""

    def __init__(self, actor: ActorId, edges: Edges) -> None:
        self.actor = actor
        self.sockets: dict[int, EdgeSocket] = {}
        self.words = 0  # that the owner has said in this session
        self._edges = edges
        self._number = 0
        self._guests: Guests | None = None  # the owner, or who was asked whether it is
        self._at = 0  # the node of that
        self._session = 0  # of the last owner; 0: it has said its last word
        self.is_attached = False
        self._hint = 0
        self._avoid: set[int] = set()
        self._pauses = 0
        self._is_seeking = False
        self._is_over = False
        self._last_word = asyncio.Event()  # replaced when it is set: whoever this was attached to is so no more

    # -- clients -------------------------------------------------------------------------------------------------------------------

    def open(self, id: str, uri: str, scope: dict[str, Any], wire: Wire) -> EdgeSocket:
        """A client has connected."""
        self._number += 1
        socket = self.sockets[self._number] = EdgeSocket(self, self._number, id, uri, scope, wire)
        if self.is_attached:
            self._introduce(socket)
        else:
            socket.settle()
            self.seek()
        return socket

    def speak(self, socket: EdgeSocket) -> None:
        """Hand on what a client said."""
        if self.is_attached:
            self._say_unsent(socket)

    def say_left(self, socket: EdgeSocket) -> None:
        if self.is_attached and socket.ending is not None:
            assert self._guests is not None
            self._guests.left(socket.number, *socket.ending)

    def shut(self) -> None:
        """The node stops: send the clients away."""
        for socket in list(self.sockets.values()):
            socket.wire.close(RESTARTING, "the server is restarting")
            socket.closed(RESTARTING, "the server is restarting", None)

    def cut_off(self) -> None:
        """The node has stopped."""
        self._is_over = True

    # -- what the owner says -------------------------------------------------------------------------------------------------------

    def welcome(self, session: int) -> None:
        self.resume(session, 0)

    def resume(self, session: int, words: int) -> None:
        is_known = session == self._session
        self._session, self.words = session, words
        self.is_attached = True
        self._hint, self._pauses = self._at, 0
        self._avoid.clear()
        for socket in list(self.sockets.values()):
            if is_known:
                socket.sent = socket.handled  # it ignores what it has heard
            elif socket.is_handed and not socket.is_opened:
                self._send_away(socket)
                continue
            else:
                socket.forget(socket.sent)
            self._introduce(socket)
            if not self.is_attached:  # it has been told so in the middle
                return
        assert self._guests is not None
        self._guests.complete()
        for socket in list(self.sockets.values()):
            socket.settle()
        self._rest()

    def _introduce(self, socket: EdgeSocket) -> None:
        guests = self._guests
        assert guests is not None
        socket.is_handed = True
        if socket.is_opened:
            stay = Stay(socket.id, socket.uri, socket.tags, socket.kept.state, socket.kept.attachment)
            guests.back(socket.number, socket.sent, stay)
        else:
            assert socket.scope is not None
            guests.join(socket.number, socket.id, socket.scope)
        self._say_unsent(socket)
        self.say_left(socket)

    def _say_unsent(self, socket: EdgeSocket) -> None:
        for number, data in socket.unsent():
            if self._guests is not None:
                self._guests.said(socket.number, number, data)

    def sent(self, number: int, frame: Frame) -> None:
        socket = self.sockets.get(number)
        if socket is not None and socket.ending is None:
            socket.wire.send(frame)

    def opened(self, number: int, tags: Sequence[str]) -> None:
        socket = self.sockets.get(number)
        if socket is not None:
            socket.is_opened, socket.tags, socket.scope = True, tags, None

    def kept(self, number: int, kept: Kept) -> None:
        socket = self.sockets.get(number)
        if socket is not None:
            socket.kept = kept

    def handled(self, number: int, message: int) -> None:
        socket = self.sockets.get(number)
        if socket is not None:
            socket.forget(message)
            socket.settle()

    def close(self, number: int, code: int, reason: str) -> None:
        socket = self.sockets.get(number)
        if socket is not None:
            socket.close(code, reason)

    def gone(self, number: int) -> None:
        socket = self.sockets.pop(number, None)
        if socket is not None:
            socket.close(RESTARTING, _AGAIN)  # which it is already, unless the owner took this node for dead
        self._rest()

    def hold(self, number: int, is_held: bool) -> None:
        socket = self.sockets.get(number)
        if socket is not None:
            socket.hold(is_held)

    def moved(self, owner: int, remainders: Sequence[Remainder]) -> None:
        """The owner's last word."""
        if self.is_attached:
            self._session = 0
            left = {remainder.number: remainder for remainder in remainders}
            for socket in list(self.sockets.values()):
                self._take_back(socket, left.get(socket.number))
        if owner:
            self._avoid.clear()  # who would not take the actor then has it now, perhaps
        else:
            self._avoid.add(self._at)
        self._hint = owner
        self._pauses += 1
        self._detach()

    def _take_back(self, socket: EdgeSocket, remainder: Remainder | None) -> None:
        """Keep what has not begun; an owner has not heard of what it says nothing of."""
        if remainder is None:
            socket.is_handed = socket.is_opened
        elif remainder.is_opened or remainder.is_unopened:
            socket.is_handed = remainder.is_opened
            socket.forget(remainder.message)
        else:
            self._send_away(socket)
        socket.sent = socket.handled

    def _send_away(self, socket: EdgeSocket) -> None:
        """Nobody knows what has become of it: its client has to connect again."""
        socket.close(RESTARTING, _AGAIN)
        del self.sockets[socket.number]

    def ended(self) -> None:
        """The owner took this node for dead, and has ended the connections that it had."""
        self._session = 0
        for socket in list(self.sockets.values()):
            if socket.is_handed:
                self._send_away(socket)
        self._pauses += 1
        self._detach()

    def lost(self, guests: FarGuests) -> None:
        if self._guests is guests:
            self._pauses += 1
            self._detach()

    # -- the way to the owner ------------------------------------------------------------------------------------------------------

    async def go_to(self, owner: int) -> None:
        """A node says that it has claimed the actor."""
        if self._guests is not None and self._at != owner and self.is_attached:
            try:
                async with asyncio.timeout(LAST_WORD_S):
                    await self._last_word.wait()
            except TimeoutError:
                pass
        if self._guests is not None and self._at != owner:
            self._guests.elsewhere()
            self._session = 0  # what it was told and has not answered may have been handled
            self._detach()
        self._hint, self._pauses = owner, 0
        self._avoid.discard(owner)
        if self._guests is None and self.sockets and not self._is_over and not self._ask(owner):
            self.seek()

    def seek(self) -> None:
        """Find the owner, unless that is under way."""
        if self._guests is None and not self._is_seeking and not self._is_over:
            stop = self._edges.places.stop(self.actor, self._hint, self._avoid)
            if self._pauses == 0 and self._ask(stop):
                return
            self._is_seeking = True
            self._edges.tasks.start(self._seek())

    async def _seek(self) -> None:
        try:
            while self._guests is None and self.sockets and not self._is_over:
                if self._pauses > 1:
                    await sleep(min(_PAUSE_S * 2 ** min(self._pauses, 10), _PAUSE_S_MAX))
                places = self._edges.places
                stop = places.stop(self.actor, self._hint, self._avoid)
                if self._guests is not None or self._ask(stop):
                    continue  # it may have been told at once that this is the wrong one
                if not stop:
                    self._avoid.clear()
                    await places.wait_news()
                elif not await self._edges.peers.wait_connected(stop, RETRY_S) and stop != self._hint:
                    self._avoid.add(stop)  # who is said to own it is waited for as long as it is a member
        finally:
            self._is_seeking = False

    def _ask(self, node: int) -> bool:
        """Ask a node for the actor. False if it cannot be asked now."""
        if node == 0:
            return False
        self._at = node
        if node == self._edges.places.me:
            self._guests = guests = self._edges.door.enter(self.actor, self._edges.edge_id, self)
            guests.knock()
            return True
        far = FarGuests(self)
        opening = encode(ForSockets(self.actor.text, self._edges.edge_id, self._session, self.words))
        try:
            far.begin(self._edges.peers.open(node, opening, far))
        except Unreachable:
            return False
        self._guests = far
        return True

    def _detach(self) -> None:
        self._guests = None
        self.is_attached = False
        self._last_word.set()
        self._last_word = asyncio.Event()
        for socket in self.sockets.values():
            socket.settle()
        if self.sockets:
            self.seek()
        else:
            self._rest()

    def _rest(self) -> None:
        """Need no owner where there are no connections."""
        if not self.sockets:
            guests, self._guests = self._guests, None
            self.is_attached = False
            self._is_over = True
            self._edges.forget(self)
            if guests is not None:
                guests.end()


class Edges:
    """The edge's side of a node: the clients that are connected to it, by their actors."""

    def __init__(self, places: Places, peers: Peers, rooms: Rooms, tasks: Tasks, edge_id: int) -> None:
        self.places = places
        self.peers = peers
        self.tasks = tasks
        self.edge_id = edge_id  # of this process, whatever its incarnation
        self.door: Door
        self._rooms = rooms
        self._edge_rooms: dict[str, EdgeRoom] = {}

    def admit(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if the client cannot be let in now. The owner may close it still."""
        self._rooms.admit(handover)
        room = self._edge_rooms.get(handover.actor.text)
        if room is not None and not room.is_attached and len(room.sockets) >= self._rooms.sockets_max(handover.actor):
            raise Overloaded(f"{len(room.sockets)} connections wait for {handover.actor}; try again later", RETRY_AFTER_S)

    def open(self, handover: Handover, wire: Wire) -> EdgeSocket:
        """Give a client that was admitted to its actor, wherever that is."""
        actor = handover.actor
        room = self._edge_rooms.get(actor.text)
        if room is None:
            room = self._edge_rooms[actor.text] = EdgeRoom(actor, self)
        return room.open(self._rooms.id_of(handover), uri_of(handover.scope), handover.scope, wire)

    def count(self) -> int:
        """How many clients are connected to this node."""
        return sum(len(room.sockets) for room in self._edge_rooms.values())

    async def summon(self, actor: ActorId, owner: int) -> None:
        """A node has claimed the actor: tell it the connections that are here."""
        room = self._edge_rooms.get(actor.text)
        if room is not None:
            await room.go_to(owner)

    def called(self, peer: int, opening: Gather, conversation: Conversation) -> Listener:
        """`summon`, from another node; the conversation ends once it is done."""
        self.tasks.start(self._answer(parse_id(opening.actor), peer, conversation))
        return Deaf()

    async def _answer(self, actor: ActorId, peer: int, conversation: Conversation) -> None:
        try:
            await self.summon(actor, peer)
        finally:
            conversation.end()

    def forget(self, room: EdgeRoom) -> None:
        if self._edge_rooms.get(room.actor.text) is room:
            del self._edge_rooms[room.actor.text]

    def send_away(self) -> None:
        """The node stops: close every connection, and tell the owners."""
        for room in list(self._edge_rooms.values()):
            room.shut()

    def close(self) -> None:
        """Look for no owner any more."""
        for room in self._edge_rooms.values():
            room.cut_off()
