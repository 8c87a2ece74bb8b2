"""The connections of one edge to one actor, and their way to its owner: they stay where they came in, whoever that is.

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
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from stead.clock import sleep
from stead.cluster.far_guests import FarGuests
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.sides import OwnerSide
from stead.cluster.sockets import EdgeSocket
from stead.cluster.wire import ForSockets, encode
from stead.cluster.words import Remainder
from stead.events import Frame
from stead.ids import ActorId
from stead.runtime import Kept, Stay, Tasks, Wire

LAST_WORD_S = 0.4  # that an owner gets for its last word, once another node has claimed the actor
RETRY_S = 0.5  # before a node that cannot be reached is doubted
_PAUSE_S, _PAUSE_S_MAX = 0.02, 1.0  # between questions who has the actor, doubling
RESTARTING = 1012
_AGAIN = "the server that had this connection was lost; connect again"


class Places(Protocol):
    """Where actors are, as far as is known."""

    @property
    def me(self) -> int: ...
    def stop(self, actor: ActorId, hint: int, avoid: Collection[int]) -> int:
        """Who should be asked for an actor next; `hint` was said to have it. 0: nobody can have it now."""
        ...

    async def wait_news(self) -> None:
        """Until the members have changed, or a little later."""
        ...


class Entrance(OwnerSide, Protocol):
    """The owner on this very node."""

    def knock(self) -> None:
        """Ask to be let in: the edge can hear the answer now, at once perhaps."""
        ...


class Door(Protocol):
    """This node's own halls."""

    def enter(self, actor: ActorId, edge_id: int, edge: EdgeRoom) -> Entrance:
        """The edge has connections of the actor, which should be here."""
        ...


class Host(Protocol):
    """The edge's side of a node, as its rooms see it."""

    places: Places
    peers: Peers
    tasks: Tasks
    edge_id: int
    door: Door

    def forget(self, room: EdgeRoom) -> None:
        """It has no connections any more."""
        ...


class EdgeRoom:
    """The connections of this node to one actor, and the way to its owner."""

    def __init__(self, actor: ActorId, host: Host) -> None:
        self.actor = actor
        self.sockets: dict[int, EdgeSocket] = {}
        self.words = 0  # that the owner has said in this session
        self._host = host
        self._number = 0
        self._guests: OwnerSide | None = None  # the owner, or who was asked whether it is
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
            stop = self._host.places.stop(self.actor, self._hint, self._avoid)
            if self._pauses == 0 and self._ask(stop):
                return
            self._is_seeking = True
            self._host.tasks.start(self._seek())

    async def _seek(self) -> None:
        try:
            while self._guests is None and self.sockets and not self._is_over:
                if self._pauses > 1:
                    await sleep(min(_PAUSE_S * 2 ** min(self._pauses, 10), _PAUSE_S_MAX))
                places = self._host.places
                stop = places.stop(self.actor, self._hint, self._avoid)
                if self._guests is not None or self._ask(stop):
                    continue  # it may have been told at once that this is the wrong one
                if not stop:
                    self._avoid.clear()
                    await places.wait_news()
                elif not await self._host.peers.wait_connected(stop, RETRY_S) and stop != self._hint:
                    self._avoid.add(stop)  # who is said to own it is waited for as long as it is a member
        finally:
            self._is_seeking = False

    def _ask(self, node: int) -> bool:
        """Ask a node for the actor. False if it cannot be asked now."""
        if node == 0:
            return False
        self._at = node
        if node == self._host.places.me:
            self._guests = guests = self._host.door.enter(self.actor, self._host.edge_id, self)
            guests.knock()
            return True
        far = FarGuests(self)
        opening = encode(ForSockets(self.actor.text, self._host.edge_id, self._session, self.words))
        try:
            far.begin(self._host.peers.open(node, opening, far))
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
            self._host.forget(self)
            if guests is not None:
                guests.end()
