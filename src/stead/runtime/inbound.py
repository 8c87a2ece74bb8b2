"""What comes in on one connection, on its way to the actor's mailbox.

Events go on in the order they came. The actor has a window for them, and each connection has one of its own, so that one client who
sends without end fills neither the mailbox nor the others' share: past a window events wait here, and the wire is paused meanwhile.
Until `on_connect` has ended well the connection's window is one event, which is that.

A reply comes here by the gate of the actor, so a closing that an error asks for stands in line with the frames of other turns.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from stead.events import Frame, SocketClosed, SocketEvent, SocketFailed, SocketMessage, SocketOpened
from stead.ids import ActorId
from stead.logic.limiting import TokenBucket
from stead.runtime.classes import ActorClass
from stead.runtime.failures import message_of
from stead.runtime.sockets import REASON_BYTES_MAX, RoomSocket, Seat

TAKEN_OVER = 1008, "taken over by a newer connection"
SOCKET_EVENTS_MAX = 64  # of one connection in the mailbox: what a flush of the disk may acknowledge at once

log = logging.getLogger("stead")


class Host(Protocol):
    """The room, as what comes in sees it."""

    actor: ActorId
    actor_class: ActorClass
    auto_reply: tuple[str, str] | None

    @property
    def is_stopping(self) -> bool: ...
    def elapsed_s(self) -> float: ...
    def forward(self, event: SocketEvent, receipt: Receipt) -> None:
        """Put an event into the actor's mailbox."""
        ...

    def has_room(self, inbound: Inbound) -> bool:
        """Whether the actor's window has room for one more event; if not, `advance` is called once it has."""
        ...

    def begun(self, size_bytes: int) -> None:
        """An event is under way."""
        ...

    def ended(self, size_bytes: int) -> None:
        """An event is under way no more."""
        ...

    def unlist(self, socket: RoomSocket) -> None:
        """The connection takes part no more."""
        ...

    def left(self, inbound: Inbound) -> None:
        """Its last event is in the mailbox, or there is none: who takes over its id may begin."""
        ...

    def remove(self, inbound: Inbound) -> None:
        """Its last event has ended."""
        ...


class Rest(NamedTuple):
    """What is left of a connection whose actor goes to another node."""

    seat: Seat
    is_opened: bool  # `on_connect` has run
    is_unopened: bool  # and if not: it has not begun
    messages: int  # that have not begun, the last ones of those that came


class Receipt:
    """Hears how one event of a connection ended."""

    __slots__ = ("_is_done", "event", "inbound", "size_bytes")

    def __init__(self, inbound: Inbound, event: SocketEvent) -> None:
        self.inbound = inbound
        self.event = event
        self._is_done = False
        self.size_bytes = len(event.message) if isinstance(event, SocketMessage) else 0

    def done(self) -> bool:
        return self._is_done

    def set_result(self, value: Any, /) -> None:
        self._is_done = True
        self.inbound.ended(self.event, self.size_bytes, None)

    def set_exception(self, error: BaseException, /) -> None:
        self._is_done = True
        self.inbound.ended(self.event, self.size_bytes, error)


class Inbound:
    """The receiver that an edge hands messages to, and the end of the connection."""

    __slots__ = (
        "_bucket",
        "_is_cut_off",
        "_is_over",
        "_is_paused",
        "room",
        "_under_way",
        "_waiting",
        "_window",
        "is_queued",
        "socket",
        "successor",
    )

    def __init__(self, room: Host, socket: RoomSocket) -> None:
        self.room = room
        self.socket = socket
        self.successor: Inbound | None = None  # a newer connection with the same id, which begins when this one has left
        self.is_queued = False  # it waits for the actor's window
        self._is_paused = False
        self._is_over = False  # nothing follows what is under way
        self._is_cut_off = False  # and of that nobody wants to hear
        self._waiting: deque[SocketEvent] | None = None  # while there are any: most connections are idle
        self._under_way = 0
        self._window = 0
        per_s = room.actor_class.socket_messages_per_s
        at_once = 0 if per_s is None else max(1, int(per_s))
        self._bucket = None if per_s is None else TokenBucket(at_once, at_once / per_s, room.elapsed_s())

    # -- what the edge reports -----------------------------------------------------------------------------------------------------

    def message(self, data: str | bytes) -> None:
        """The next message of the client, in order."""
        if not self.socket.is_connected:
            return
        if self._bucket is not None and not self._bucket.take(self.room.elapsed_s()).success:
            self.end(1008, f"more than {self.room.actor_class.socket_messages_per_s:g} messages a second")
            return
        self._take_in(SocketMessage(self.socket.key, data))

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        """The wire is gone: with the code of the closing handshake, or 1006."""
        if not self.socket.is_connected:
            return
        self._disconnect()
        if error is not None:
            self._take_in(SocketFailed(self.socket.key, error))
        self._take_in(SocketClosed(self.socket.key, code, reason))

    # -- what the room asks --------------------------------------------------------------------------------------------------------

    def open(self, scope: dict[str, Any], *, at_once: bool) -> None:
        """Queue the event of the new connection, which waits for `begin` unless it may start at once."""
        self._window = int(at_once)
        self._take_in(SocketOpened(self.socket.key, scope))

    def restore(self) -> None:
        """Go on with a connection whose `on_connect` has run in another room."""
        self._window = SOCKET_EVENTS_MAX

    def begin(self) -> None:
        """The connection whose id this one took over has left."""
        self._window = 1
        self.advance()

    def end(self, code: int, reason: str) -> None:
        """Close the connection; `on_close` runs behind what the client had sent."""
        if self.socket.is_connected:
            self._disconnect()
            self.socket.wire.close(code, reason)
            self._take_in(SocketClosed(self.socket.key, code, reason))

    def pause(self) -> None:
        """Take nothing more from the client, for good."""
        self._is_paused = True
        self.socket.wire.pause()

    def cut_off(self) -> None:
        """The node has stopped: no event of this connection goes on."""
        self.socket.is_connected = False
        self._is_cut_off = True
        self._waiting = None

    def part(self, unrun: Sequence[SocketEvent]) -> Rest:
        """Cut it off, for another room to go on with; `unrun` are the events that came back from the mailbox."""
        assert self.socket.seat is not None
        events = [*unrun, *(self._waiting or ())]
        is_opened = self._window == SOCKET_EVENTS_MAX
        is_unopened = any(isinstance(event, SocketOpened) for event in events)
        self.cut_off()
        return Rest(self.socket.seat, is_opened, is_unopened, sum(isinstance(event, SocketMessage) for event in events))

    def advance(self) -> None:
        """Send on what waits, as far as the windows allow."""
        waiting = self._waiting
        while waiting and self._goes_on(waiting[0]):
            waiting.popleft()
        if waiting is not None and not waiting and self._waiting is waiting:
            self._waiting = None
            if self._is_paused and self.socket.is_connected and not self.room.is_stopping:
                self._is_paused = False
                self.socket.wire.resume()

    def ended(self, event: SocketEvent, size_bytes: int, error: BaseException | None) -> None:
        """An event's turn has ended, and its commit is durable or lost."""
        self._under_way -= 1
        if self._is_cut_off:
            self.room.ended(size_bytes)
            return
        seat = self.socket.seat
        if error is not None:
            self._failed(event, error)
        elif isinstance(event, SocketOpened):
            self._window = SOCKET_EVENTS_MAX
            if seat is not None:
                seat.opened(self.socket.tags)
        if seat is not None and isinstance(event, SocketMessage):
            seat.handled()
        self.room.ended(size_bytes)
        self.advance()
        if self._is_over and not self._under_way:
            self.room.remove(self)

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _take_in(self, event: SocketEvent) -> None:
        if self._waiting is None:
            if self._goes_on(event):
                return
            self._waiting = deque()
        self._waiting.append(event)
        if not self._is_paused and isinstance(event, SocketMessage):
            self._is_paused = True
            self.socket.wire.pause()

    def _goes_on(self, event: SocketEvent) -> bool:
        """Whether the event need not wait: it is in the mailbox now, or needs no turn."""
        if self._under_way >= self._window:
            return False
        if type(event) not in self.room.actor_class.socket_events or self._is_answered(event):
            if isinstance(event, SocketClosed):
                self._leave()
            elif self.socket.seat is not None and isinstance(event, SocketMessage):
                self.socket.seat.handled()
            return True
        if not self.room.has_room(self):
            return False
        self._under_way += 1
        receipt = Receipt(self, event)
        self.room.begun(receipt.size_bytes)
        self.room.forward(event, receipt)
        if isinstance(event, SocketClosed):
            self._leave()
        return True

    def _is_answered(self, event: SocketEvent) -> bool:
        """Whether it is a message that the actor has left the reply to."""
        pair = self.room.auto_reply
        if pair is None or not isinstance(event, SocketMessage) or event.message != pair[0]:
            return False
        if self.socket.is_connected:
            self.socket.wire.send(Frame(pair[1]))
        return True

    def _disconnect(self) -> None:
        self.socket.is_connected = False
        self.room.unlist(self.socket)

    def _leave(self) -> None:
        self._is_over = True
        self.room.left(self)
        if not self._under_way:
            self.room.remove(self)

    def _failed(self, event: SocketEvent, error: BaseException) -> None:
        hook = _HOOKS[type(event)]
        log.error("%s of %s failed for the socket %r", hook, self.room.actor, self.socket.id, exc_info=error)
        if isinstance(event, SocketOpened):
            self._refuse(error)
        elif isinstance(event, SocketMessage) and SocketFailed in self.room.actor_class.socket_events:
            assert isinstance(error, Exception), "what crosses between units is an Exception"
            self._waiting = self._waiting or deque()
            self._waiting.appendleft(SocketFailed(self.socket.key, error))

    def _refuse(self, error: BaseException) -> None:
        """`on_connect` failed: close, and forget what the client sent meanwhile."""
        self._waiting = None
        if self.socket.is_connected:
            self._disconnect()
            self.socket.wire.close(1011, message_of(error).encode(errors="replace")[:REASON_BYTES_MAX].decode(errors="ignore"))
        self._leave()


_HOOKS = {SocketOpened: "on_connect", SocketMessage: "on_message", SocketFailed: "on_error", SocketClosed: "on_close"}
