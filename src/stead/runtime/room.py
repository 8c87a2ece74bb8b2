"""The connections of one actor, beside its activation: they stay while the actor hibernates.

A connection is listed from the turn in which its `on_connect` runs until its wire is gone or it was closed. It is known here until
its last event has ended, so the number of those is what `sockets_max` bounds, and with them every queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from stead.api import Sendable, Socket
from stead.clock import Clock
from stead.errors import Invalid, Overloaded, Unavailable
from stead.events import Event, Frame, Handover, SocketEvent
from stead.ids import ActorId, Chance
from stead.runtime.classes import ActorClass
from stead.runtime.effects import Kept
from stead.runtime.gate import Gate, Held
from stead.runtime.handshake import connection_id, uri_of
from stead.runtime.inbound import TAKEN_OVER, Inbound, Receipt, Rest
from stead.runtime.sockets import RoomSocket, Seat, Sending, Wire, as_message
from stead.runtime.turn import Delivery, Reply, Turn, acting

ROOM_BYTES_MAX = 64 * 1024 * 1024  # of messages in one actor's mailbox: two of the largest
RETRY_AFTER_S = 5.0  # told to who finds a room full
_OWN_ID_BYTES = 8  # of an id that the server makes


class Here(Protocol):
    """This node's dispatcher, as rooms see it."""

    clock: Clock
    chance: Chance

    def forward(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None: ...
    def resident(self, actor: ActorId) -> Resident | None: ...
    def room_ended(self, actor: ActorId) -> None:
        """The last connection of an actor has gone."""
        ...


class Resident(Protocol):
    """An actor in memory."""

    actor: ActorId
    auto_reply: tuple[str, str] | None

    @property
    def gate(self) -> Gate: ...


class Room:
    """One actor's connections."""

    def __init__(self, actor: ActorId, actor_class: ActorClass, rooms: Rooms) -> None:
        self.actor = actor
        self.actor_class = actor_class
        self._rooms = rooms
        resident = rooms.here.resident(actor)
        self.auto_reply = None if resident is None else resident.auto_reply
        self.connections: dict[int, Inbound] = {}
        self._by_id: dict[str, Inbound] = {}  # the newest with each id, until its last event is in the mailbox
        self._listed: dict[int, RoomSocket] = {}
        self._by_tag: dict[str, dict[int, RoomSocket]] = {}
        self._events_max = max(1, actor_class.mailbox_events_max // 2)  # so that calls find room beside a flood of messages
        self._events = self._bytes = 0
        self._queue: deque[Inbound] = deque()  # connections that wait for the actor's window

    # -- the actor's side ----------------------------------------------------------------------------------------------------------

    def sockets(self, tag: str | None = None) -> list[RoomSocket]:
        """Those that are open, or those with a tag, in the order they connected."""
        turn = acting(self.actor, "ctx.sockets()")
        if turn is None or turn.effects is None:
            return [socket for socket in self._tagged(tag) if not socket.sealed.is_closing]
        return [socket for socket in self._tagged(tag) if socket.is_open]

    def broadcast(self, message: Sendable, exclude: Sequence[Socket | str], tag: str | None) -> None:
        frame = Frame(as_message(message))
        recipients = self.sockets(tag)
        if exclude:
            if isinstance(exclude, str):
                raise Invalid("exclude is a list of sockets or ids, not one id")
            left_out = set(exclude)
            recipients = [socket for socket in recipients if socket not in left_out and socket.id not in left_out]
        if recipients:
            self.act("ctx.broadcast()", Sending(recipients, frame), len(frame.message))

    def _tagged(self, tag: str | None) -> Iterable[RoomSocket]:
        if tag is None:
            return self._listed.values()
        tagged = self._by_tag.get(tag, {})
        own = self._by_id.get(tag)
        if own is None or own.socket.key not in self._listed:
            return tagged.values()
        tagged = {**tagged, own.socket.key: own.socket}
        return [tagged[key] for key in sorted(tagged)]

    def act(self, what: str, effect: Held, size_bytes: int = 0) -> None:
        """Let `effect` leave with the running turn; outside turns as soon as what was submitted is durable."""
        turn = acting(self.actor, what)
        if turn is not None:
            turn.effect().add(effect, size_bytes)
            return
        resident = self._rooms.here.resident(self.actor)
        if resident is None:
            effect.release(None, None)
        else:
            resident.gate.release(effect)

    def list(self, socket: RoomSocket) -> None:
        """Let a new connection take part, by its tags."""
        if socket.is_connected:
            self._listed[socket.key] = socket
            for tag in socket.tags:
                if tag != socket.id:  # which is looked up by itself: most sockets have no other tag
                    self._by_tag.setdefault(tag, {})[socket.key] = socket

    def unlist(self, socket: RoomSocket) -> None:
        if self._listed.pop(socket.key, None) is not None:
            for tag in socket.tags:
                if tag != socket.id:
                    tagged = self._by_tag[tag]
                    del tagged[socket.key]
                    if not tagged:
                        del self._by_tag[tag]

    # -- coming and going ----------------------------------------------------------------------------------------------------------

    def check_admits(self, id: str | None) -> None:
        """Raise `Overloaded` if there are too many connections. One that takes over another's id may be one too many."""
        connections_max = self.actor_class.sockets_max
        if id in self._by_id:
            connections_max *= 2  # else who lost its connection could not come back before that is noticed here
        if len(self.connections) >= connections_max:
            raise Overloaded(f"{self.actor} has {len(self.connections)} open sockets; try again later", RETRY_AFTER_S)

    def open(self, socket: RoomSocket, scope: dict[str, Any]) -> Inbound:
        inbound = Inbound(self, socket)
        former = self._by_id.get(socket.id)
        self.connections[socket.key] = inbound
        self._by_id[socket.id] = inbound
        if former is not None:
            former.successor = inbound
            former.end(*TAKEN_OVER)
        inbound.open(scope, at_once=former is None or former.successor is None)
        return inbound

    def restore(self, socket: RoomSocket) -> Inbound:
        """Go on with a connection that another room had. One whose id a newer one has meanwhile is taken over."""
        inbound = self.connections[socket.key] = Inbound(self, socket)
        inbound.restore()
        self.list(socket)
        other = self._by_id.get(socket.id)
        if other is None or not other.socket.is_connected:
            self._by_id[socket.id] = inbound
        else:
            inbound.end(*TAKEN_OVER)
        return inbound

    def dissolve(self, unrun: Iterable[Delivery]) -> Sequence[Rest]:
        """Give every connection up, for another room to go on with; `unrun` is what came back from the actor's mailbox."""
        events: dict[Inbound, list[SocketEvent]] = {}
        for delivery in unrun:
            if isinstance(receipt := delivery.reply, Receipt):
                events.setdefault(receipt.inbound, []).append(receipt.event)
        return [inbound.part(events.get(inbound, ())) for inbound in self.connections.values()]

    def end(self, socket: RoomSocket, code: int, reason: str) -> None:
        inbound = self.connections.get(socket.key)
        if inbound is not None:
            inbound.end(code, reason)

    def left(self, inbound: Inbound) -> None:
        if self._by_id.get(inbound.socket.id) is inbound:
            del self._by_id[inbound.socket.id]
        successor, inbound.successor = inbound.successor, None
        if successor is not None:
            successor.begin()

    def remove(self, inbound: Inbound) -> None:
        if self.connections.pop(inbound.socket.key, None) is not None and inbound.socket.seat is not None:
            inbound.socket.seat.gone()
        if not self.connections:
            self._rooms.drop(self)

    # -- the actor's window --------------------------------------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        return self._rooms.is_stopping

    def elapsed_s(self) -> float:
        return self._rooms.here.clock.elapsed_s()

    def forward(self, event: SocketEvent, receipt: Receipt) -> None:
        self._rooms.here.forward(self.actor, event, receipt, None)

    def has_room(self, inbound: Inbound) -> bool:
        if self._events < self._events_max and self._bytes < ROOM_BYTES_MAX:
            return True
        if not inbound.is_queued:
            inbound.is_queued = True
            self._queue.append(inbound)
        return False

    def begun(self, size_bytes: int) -> None:
        self._events += 1
        self._bytes += size_bytes

    def ended(self, size_bytes: int) -> None:
        self._events -= 1
        self._bytes -= size_bytes
        while self._queue and self._events < self._events_max and self._bytes < ROOM_BYTES_MAX:
            inbound = self._queue.popleft()
            inbound.is_queued = False
            inbound.advance()


class AutoReply:
    """What an actor's sockets are answered without it, from when this leaves the gate."""

    __slots__ = ("_pair", "_resident", "_rooms")

    def __init__(self, rooms: Rooms, resident: Resident, pair: tuple[str, str] | None) -> None:
        self._rooms, self._resident, self._pair = rooms, resident, pair

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self._resident.auto_reply = self._pair  # for a room that begins later
            room = self._rooms.find(self._resident.actor)
            if room is not None:
                room.auto_reply = self._pair


class Stay(NamedTuple):
    """A connection between two rooms, as it was last durable. `state` and `attachment` are encoded."""

    id: str
    uri: str
    tags: Sequence[str]
    state: bytes | None
    attachment: bytes | None


class Rooms:
    """The rooms of a node: one for each actor with connections."""

    def __init__(self, classes: Mapping[str, ActorClass], here: Here) -> None:
        self.here = here
        self.is_stopping = False
        self._classes = classes
        self._rooms: dict[str, Room] = {}
        self._key = 0

    def find(self, actor: ActorId) -> Room | None:
        return self._rooms.get(actor.text)

    def count(self) -> int:
        """How many connections there are."""
        return sum(len(room.connections) for room in self._rooms.values())

    def admit(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if the actor cannot take another connection now."""
        if self.is_stopping:
            raise Unavailable("the node is stopping; try again")
        self._class(handover.actor)
        room = self.find(handover.actor)
        id = connection_id(handover.scope)
        if room is not None:
            room.check_admits(id)

    def open(self, handover: Handover, wire: Wire) -> Inbound:
        """Begin a connection that was admitted, in the same step: its limits are not looked at again."""
        return self.join(handover.actor, self.id_of(handover), handover.scope, wire, None)

    def id_of(self, handover: Handover) -> str:
        """The client's own id, or a new one."""
        return connection_id(handover.scope) or self.here.chance.hex(_OWN_ID_BYTES)

    def join(self, actor: ActorId, id: str, scope: dict[str, Any], wire: Wire, seat: Seat | None) -> Inbound:
        """Begin a connection."""
        room = self._room(actor)
        return room.open(RoomSocket(room, self._next_key(), wire, id, uri_of(scope), seat), scope)

    def restore(self, actor: ActorId, stay: Stay, wire: Wire, seat: Seat) -> Inbound:
        """Go on with a connection that another node's room had: it is listed at once, and `on_connect` does not run again."""
        room = self._room(actor)
        socket = RoomSocket(room, self._next_key(), wire, stay.id, stay.uri, seat)
        socket.tags = tuple(stay.tags)
        socket.sealed = socket.durable = Kept(stay.state, stay.attachment)
        return room.restore(socket)

    def withdraw(self, inbound: Inbound) -> None:
        """Forget one connection: another node's room goes on with it."""
        room = inbound.room
        room.unlist(inbound.socket)
        inbound.cut_off()
        room.left(inbound)
        room.remove(inbound)

    def sockets_max(self, actor: ActorId) -> int:
        """How many connections an actor may have."""
        return self._class(actor).sockets_max

    def dissolve(self, actor: ActorId, unrun: Iterable[Delivery]) -> Sequence[Rest]:
        """The actor goes to another node: forget its connections, and tell what is left of each."""
        room = self._rooms.pop(actor.text, None)
        return [] if room is None else room.dissolve(unrun)

    def actors(self) -> list[ActorId]:
        """The actors with connections."""
        return [room.actor for room in self._rooms.values()]

    def _room(self, actor: ActorId) -> Room:
        room = self._rooms.get(actor.text)
        if room is None:
            room = self._rooms[actor.text] = Room(actor, self._class(actor), self)
        return room

    def _next_key(self) -> int:
        self._key += 1
        return self._key

    def drop(self, room: Room) -> None:
        if self._rooms.get(room.actor.text) is room:
            del self._rooms[room.actor.text]
            self.here.room_ended(room.actor)

    # -- the node's end ------------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Take in nothing more."""
        self.is_stopping = True
        for inbound in self._connections():
            inbound.pause()

    def close(self, code: int, reason: str) -> None:
        """Close every connection."""
        for inbound in self._connections():
            inbound.end(code, reason)

    def cut_off(self) -> None:
        """Forget every connection: nothing that they sent or will send has an effect."""
        self.is_stopping = True
        for inbound in self._connections():
            inbound.cut_off()
        self._rooms.clear()

    def _connections(self) -> list[Inbound]:
        return [inbound for room in self._rooms.values() for inbound in room.connections.values()]

    def _class(self, actor: ActorId) -> ActorClass:
        actor_class = self._classes.get(actor.unit)
        if actor_class is None:
            raise Invalid(f"there is no actor unit {actor.unit!r}")
        actor_class.check_admits_sockets()
        return actor_class
