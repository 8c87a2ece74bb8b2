"""One client at its edge: what the next owner of its actor would have to know of it, and its messages until their turns are over.

They are that long the client's window, too: while it is full, or nobody has the actor, the client is not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from stead.runtime import Kept, Wire

MESSAGES_MAX = 64  # of one client that wait or have no answer: as many as its actor takes at once
MESSAGES_BYTES_MAX = 256 * 1024  # and what is in them; one message is always let through


class Room(Protocol):
    """The client's room at the edge."""

    @property
    def is_attached(self) -> bool:
        """Whether there is an owner to say something to."""
        ...

    def speak(self, socket: EdgeSocket) -> None:
        """Hand on what the client said."""
        ...

    def say_left(self, socket: EdgeSocket) -> None:
        """Hand on that the client has left."""
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

    def __init__(self, room: Room, number: int, id: str, uri: str, scope: dict[str, Any], wire: Wire) -> None:
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
