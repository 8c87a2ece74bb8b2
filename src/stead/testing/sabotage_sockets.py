"""Planted bugs of sockets, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from stead.events import Handover, SocketEvent, SocketMessage
from stead.ids import named_id
from stead.runtime.activation import Activation
from stead.runtime.dispatcher import Dispatcher
from stead.runtime.effects import Effects, Kept
from stead.runtime.gate import Gate
from stead.runtime.inbound import SOCKET_EVENTS_MAX, Inbound
from stead.runtime.room import Room, Rooms
from stead.runtime.sockets import Wire
from stead.runtime.state import ActorState
from stead.runtime.turn import Turn
from stead.testing.planting import Plant, planting

SOCKET_SABOTAGES: dict[str, Plant] = {}
_plant = planting(SOCKET_SABOTAGES)


# -- P2: serial and in order -----------------------------------------------------------------------------------------------------


@_plant("P2", Inbound, "advance")
def message_order_swapped(right: Any) -> Any:
    """Of what waits the message that came last goes on first."""

    def advance(self: Inbound) -> None:
        if self._waiting is not None and all(isinstance(event, SocketMessage) for event in self._waiting):
            self._waiting.rotate(1)
        right(self)

    return advance


@_plant("P2", Inbound, "open")
def newer_does_not_wait(right: Any) -> Any:
    """A connection that takes over an id begins before the older one has been heard."""
    return lambda self, scope, *, at_once: right(self, scope, at_once=True)


# -- P3: whole or not at all -----------------------------------------------------------------------------------------------------


@_plant("P3", ActorState, "roll_back")
def effects_not_rolled_back(right: Any) -> Any:
    """What a turn that raises has sent is sent."""

    async def roll_back(self: ActorState, turn: Turn) -> bool:
        if turn.effects is not None:
            self.let_out(turn)
        rebuilt: bool = await right(self, turn)
        return rebuilt

    return roll_back


@_plant("P3", Effects, "end")
def transaction_sends_all_the_same(right: Any) -> Any:
    """What a transaction rolled back is sent."""
    return lambda self, *, keep: right(self, keep=True)


@_plant("P3", Effects, "release")
def state_survives_lost_commit(right: Any) -> Any:
    """A socket keeps the state that a lost commit gave it."""

    def release(self: Effects, value: Any, error: BaseException | None) -> None:
        if error is None:
            right(self, value, error)

    return release


@_plant("P3", Inbound, "open")
def heard_before_let_in(right: Any) -> Any:
    """Messages go on while on_connect runs."""

    def open(self: Inbound, scope: dict[str, Any], *, at_once: bool) -> None:
        right(self, scope, at_once=at_once)
        self._window = SOCKET_EVENTS_MAX

    return open


# -- P4: nothing before its commit -----------------------------------------------------------------------------------------------


@_plant("P4", Gate, "release")
def frame_before_commit(right: Any) -> Any:
    """What a turn sends to sockets leaves at its end."""

    def release(self: Gate, held: Any, value: Any = None, error: BaseException | None = None) -> None:
        if isinstance(held, Effects):
            held.release(value, error)
        else:
            right(self, held, value, error)

    return release


@_plant("P4", Room, "act")
def spawned_work_sends_at_once(right: Any) -> Any:
    """What is sent outside turns waits for nothing."""

    def act(self: Room, what: str, effect: Any, size_bytes: int = 0) -> None:
        here, self._rooms.here = self._rooms.here, _Nobody()  # type: ignore[assignment]
        try:
            right(self, what, effect, size_bytes)
        finally:
            self._rooms.here = here

    return act


class _Nobody:
    """A node with nobody in memory."""

    def resident(self, actor: Any) -> None:
        return None


# -- P7: leaving memory is invisible ---------------------------------------------------------------------------------------------


@_plant("P7", Dispatcher, "evict")
def state_leaves_with_the_actor(right: Any) -> Any:
    """Sockets of an evicted actor forget their state."""

    def evict(self: Dispatcher, activation: Activation) -> None:
        room = activation.room
        if room is not None:
            for inbound in room.connections.values():
                inbound.socket.sealed = inbound.socket.durable = Kept()
        right(self, activation)

    return evict


@_plant("P7", Dispatcher, "evict")
def sockets_unlisted_with_the_actor(right: Any) -> Any:
    """Sockets of an evicted actor are listed no more."""

    def evict(self: Dispatcher, activation: Activation) -> None:
        room = activation.room
        if room is not None:
            for inbound in room.connections.values():
                room.unlist(inbound.socket)
        right(self, activation)

    return evict


# -- P9: isolated ----------------------------------------------------------------------------------------------------------------


@_plant("P9", Rooms, "open")
def room_names_unquoted(right: Any) -> Any:
    """Percent-encoding in a room's name is undone."""

    def open(self: Rooms, handover: Handover, wire: Wire) -> Inbound:
        name = unquote(handover.actor.name or "")
        inbound: Inbound = right(self, Handover(named_id(handover.actor.unit, name), handover.scope), wire)
        return inbound

    return open


# -- P10: bounded ----------------------------------------------------------------------------------------------------------------


@_plant("P10", Room, "has_room")
def messages_fill_the_mailbox(right: Any) -> Any:
    """Messages take all of a mailbox."""
    return lambda self, inbound: True


@_plant("P10", Inbound, "_take_in")
def clients_never_paused(right: Any) -> Any:
    """What does not fit waits, however much it is."""

    def take_in(self: Inbound, event: SocketEvent) -> None:
        self._is_paused = True
        right(self, event)

    return take_in
