"""Planted bugs of sockets whose actor is on another node, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stead.cluster.edge_room import EdgeRoom
from stead.cluster.far_edge import FarEdge
from stead.cluster.guests import Guests
from stead.cluster.halls import Halls
from stead.cluster.sockets import EdgeSocket
from stead.cluster.words import Remainder
from stead.ids import ActorId
from stead.runtime import Stay
from stead.testing.planting import Plant, planting

CLUSTER_SOCKET_SABOTAGES: dict[str, Plant] = {}
_plant = planting(CLUSTER_SOCKET_SABOTAGES)


# -- P2: serial and in order -------------------------------------------------------------------------------------------------------


@_plant("P2", Guests, "said")
def heard_again_is_handled_again(right: Any) -> Any:
    """The owner does not look whether it has had a message already."""

    def said(self: Guests, number: int, message: int, data: str | bytes) -> None:
        guest = self.guests.get(number)
        if guest is not None:
            guest.message = 0
        right(self, number, message, data)

    return said


@_plant("P2", EdgeRoom, "_take_back")
def moved_messages_are_lost(right: Any) -> Any:
    """What had not begun when the actor moved is taken for done."""

    def take_back(self: EdgeRoom, socket: EdgeSocket, remainder: Remainder | None) -> None:
        socket.forget(socket.sent)
        right(self, socket, remainder)

    return take_back


@_plant("P2", EdgeSocket, "unsent")
def order_lost_at_a_move(right: Any) -> Any:
    """Of what waited for an owner the message that came last goes first."""
    return lambda self: right(self)[::-1]


# -- P3: whole or not at all -------------------------------------------------------------------------------------------------------


@_plant("P3", Guests, "back")
def greeted_again(right: Any) -> Any:
    """A new owner runs `on_connect` for whoever it did not know."""

    def back(self: Guests, number: int, message: int, stay: Stay) -> None:
        path, _, query = stay.uri.partition("?")
        plain = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "headers": []}
        self.join(number, stay.id, {**plain, "path": path, "raw_path": path.encode(), "query_string": query.encode()})
        guest = self.guests.get(number)
        if guest is not None:
            guest.message = guest.done = message

    return back


@_plant("P3", EdgeRoom, "kept")
def states_stay_behind(right: Any) -> Any:
    """The edge does not keep what a socket's values are."""
    return lambda self, number, kept: None


# -- P4: all that leaves arrives ---------------------------------------------------------------------------------------------------


@_plant("P4", FarEdge, "welcome_back")
def unheard_is_not_said_again(right: Any) -> Any:
    """What was under way when a channel broke is taken for heard."""

    def welcome_back(self: FarEdge, session: int, words: int) -> None:
        right(self, session, self._words)

    return welcome_back


# -- P7: what happens to owners is invisible ---------------------------------------------------------------------------------------


@_plant("P7", EdgeRoom, "lost")
def forgets_to_look_for_an_owner(right: Any) -> Any:
    """An edge that has lost its owner waits to be asked."""

    def lost(self: EdgeRoom, guests: Any) -> None:
        self._is_seeking = True
        right(self, guests)

    return lost


@_plant("P7", EdgeRoom, "resume")
def doubtful_messages_are_sent_again(right: Any) -> Any:
    """What a dead owner may have handled is handed to the next one."""

    def resume(self: EdgeRoom, session: int, words: int) -> None:
        for socket in self.sockets.values():
            socket.sent = socket.handled
        right(self, session, words)

    return resume


@_plant("P7", Halls, "_call_in")
def nobody_is_asked_for_connections(right: Any) -> Any:
    """A new owner begins with whoever has come by then."""

    async def call_in(self: Halls, actor: ActorId) -> None:  # noqa: RUF029 - the right one waits
        return

    return call_in


@_plant("P7", EdgeRoom, "moved")
def who_refused_is_avoided(right: Any) -> Any:
    """A node that would not take an actor is not asked for it again, although another one says that it has it."""

    def moved(self: EdgeRoom, owner: int, remainders: Sequence[Remainder]) -> None:
        avoided = set(self._avoid)
        right(self, owner, remainders)
        self._avoid |= avoided

    return moved
