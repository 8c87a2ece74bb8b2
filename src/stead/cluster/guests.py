"""The connections of one edge to one actor, at the actor's owner.

**A guest** stands in the actor's room as any connection does. What the room sends it goes to its edge, and so does all that the
next owner would have to know: that `on_connect` has run, its values once they are durable, which messages have had their turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stead.api import HTTPException
from stead.cluster.far_edge import FarEdge
from stead.cluster.sides import EdgeSide
from stead.cluster.words import Remainder
from stead.errors import SteadError
from stead.events import Frame
from stead.ids import ActorId
from stead.runtime import REASON_BYTES_MAX, Inbound, Kept, Rest, Rooms, Stay

TRY_LATER, LOST = 1013, 1006


class House(Protocol):
    """The actor's hall, as the guests of one edge see it."""

    actor: ActorId
    rooms: Rooms

    def knock(self, guests: Guests) -> None:
        """Let an edge in, or tell it where to go."""
        ...

    def check_admits(self, id: str) -> None:
        """Raise `HTTPException` or a `SteadError` if the actor takes no such connection now."""
        ...

    def news(self) -> None:
        """An edge has told its connections, or is out of reach."""
        ...

    def leave(self, guests: Guests) -> None:
        """They are over."""
        ...


class Guest:
    """A connection at its actor: the room's way to the client, and the seat that outlives the room."""

    __slots__ = ("done", "guests", "inbound", "message", "number")

    inbound: Inbound

    def __init__(self, guests: Guests, number: int, message: int) -> None:
        self.guests = guests
        self.number = number
        self.message = message  # the last that came
        self.done = message  # the last that has had its turn

    # -- the wire ------------------------------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        self.guests.edge.sent(self.number, frame)

    def close(self, code: int, reason: str) -> None:
        self.guests.edge.close(self.number, code, reason)

    def pause(self) -> None:
        self.guests.edge.hold(self.number, True)

    def resume(self) -> None:
        self.guests.edge.hold(self.number, False)

    # -- the seat ------------------------------------------------------------------------------------------------------------------

    def opened(self, tags: Sequence[str]) -> None:
        self.guests.edge.opened(self.number, tags)

    def kept(self, kept: Kept) -> None:
        self.guests.edge.kept(self.number, kept)

    def handled(self) -> None:
        self.done += 1
        self.guests.edge.handled(self.number, self.done)

    def gone(self) -> None:
        self.guests.gone(self)


class Guests:
    """The connections of one edge to one actor."""

    def __init__(self, hall: House, edge_id: int) -> None:
        self.hall = hall
        self.edge_id = edge_id
        self.edge: EdgeSide
        self.peer = 0  # the incarnation of an edge on another node
        self.is_welcome = self.is_complete = False
        self.is_away = False
        self.guests: dict[int, Guest] = {}
        self._number = 0  # the highest that came

    def knock(self) -> None:
        """Ask to be let in: the edge can hear the answer now."""
        self.hall.knock(self)

    def join(self, number: int, id: str, scope: dict[str, Any]) -> None:
        if number > self._number:
            guest = self._seat(number, 0)
            try:
                self.hall.check_admits(id)
                guest.inbound = self.hall.rooms.join(self.hall.actor, id, scope, guest, guest)
            except (HTTPException, SteadError) as exc:
                self._turn_away(number, exc)

    def back(self, number: int, message: int, stay: Stay) -> None:
        if number > self._number:
            guest = self._seat(number, message)
            try:
                guest.inbound = self.hall.rooms.restore(self.hall.actor, stay, guest, guest)
            except (HTTPException, SteadError) as exc:
                self._turn_away(number, exc)

    def _turn_away(self, number: int, why: Exception) -> None:
        """The actor takes no such connection now, or this node's version of it takes none."""
        del self.guests[number]
        self.edge.close(number, TRY_LATER, str(why).encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
        self.edge.gone(number)

    def _seat(self, number: int, message: int) -> Guest:
        self._number = number
        guest = self.guests[number] = Guest(self, number, message)
        return guest

    def said(self, number: int, message: int, data: str | bytes) -> None:
        guest = self.guests.get(number)
        if guest is not None and message > guest.message:
            guest.message = message
            guest.inbound.message(data)

    def left(self, number: int, code: int, reason: str, error: Exception | None) -> None:
        guest = self.guests.get(number)
        if guest is not None:
            guest.inbound.closed(code, reason, error)

    def complete(self) -> None:
        self.is_complete = True
        self.hall.news()

    def elsewhere(self) -> None:
        """Another node has claimed the actor."""
        self.withdraw()

    def withdraw(self) -> None:
        """Forget these connections without a word to the actor: they live on in another room."""
        guests, self.guests = self.guests, {}
        for guest in guests.values():
            self.hall.rooms.withdraw(guest.inbound)
        self.end()

    def end(self) -> None:
        """There are no connections any more."""
        if isinstance(self.edge, FarEdge):
            self.edge.end()
        self.hall.leave(self)

    def away(self) -> None:
        """The edge is out of reach."""
        self.is_away = True
        self.hall.news()
        if not self.is_welcome:
            self.hall.leave(self)

    def lose(self) -> None:
        """The edge is over, and its clients with it."""
        for guest in list(self.guests.values()):
            guest.inbound.closed(LOST, "", None)
        self.hall.leave(self)

    def overflow(self) -> None:
        for guest in list(self.guests.values()):
            guest.inbound.end(TRY_LATER, "too much waits to be read")

    def gone(self, guest: Guest) -> None:
        if self.guests.pop(guest.number, None) is not None:
            self.edge.gone(guest.number)

    def remainder(self, rest: Rest) -> Remainder:
        guest = rest.seat
        assert isinstance(guest, Guest)
        return Remainder(guest.number, rest.is_opened, rest.is_unopened, guest.message - rest.messages)
