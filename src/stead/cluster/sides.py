"""What an edge and an owner say to each other about connections: in a call where both are on one node, else over a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stead.cluster.words import Remainder
from stead.events import Frame
from stead.runtime import Kept, Stay


class OwnerSide(Protocol):
    """The owner, as an edge sees it."""

    def join(self, number: int, id: str, scope: dict[str, Any]) -> None:
        """A client has connected."""
        ...

    def back(self, number: int, message: int, stay: Stay) -> None:
        """A connection that another owner had; `message` is the last that does not come."""
        ...

    def said(self, number: int, message: int, data: str | bytes) -> None:
        """A message, by its number."""
        ...

    def left(self, number: int, code: int, reason: str, error: Exception | None) -> None:
        """A connection has ended."""
        ...

    def complete(self) -> None:
        """All connections have been told."""
        ...

    def elsewhere(self) -> None:
        """They are another owner's now: nothing more is said or heard."""
        ...

    def end(self) -> None:
        """There are no connections any more."""
        ...


class EdgeSide(Protocol):
    """An edge, as the owner sees it."""

    def welcome(self, session: int) -> None:
        """The actor is here, and what is known of the connections is that session's."""
        ...

    def sent(self, number: int, frame: Frame) -> None:
        """A message to a connection."""
        ...

    def opened(self, number: int, tags: Sequence[str]) -> None: ...
    def kept(self, number: int, kept: Kept) -> None: ...
    def handled(self, number: int, message: int) -> None: ...
    def close(self, number: int, code: int, reason: str) -> None: ...
    def gone(self, number: int) -> None: ...
    def hold(self, number: int, is_held: bool) -> None:
        """Listen to a client no more for now, or again."""
        ...

    def moved(self, owner: int, remainders: Sequence[Remainder]) -> None:
        """The actor is elsewhere: nothing more is said or heard."""
        ...
