"""What an actor can ask of its surroundings: the protocol behind `self.ctx`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Protocol

from stead.api.socket import Sendable, Socket


class ActorContext(Protocol):
    """An actor's life outside its own methods."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run slow work outside any turn. It keeps the actor in memory, ends with it, and re-enters with `turn()`."""
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for a turn of the actor and hold it for the block; what the block wrote is durable when it has ended."""
        ...

    def abort(self, reason: str = "") -> NoReturn:
        """Drop the turn's writes and the instance; the next event builds a new one. Raises `Aborted` here and at the caller."""
        ...

    def sockets(self, tag: str | None = None) -> list[Socket]:
        """What `Actor.sockets` gives."""
        ...

    def broadcast(self, message: Sendable, exclude: Sequence[Socket | str] = (), tag: str | None = None) -> None:
        """What `Actor.broadcast` does."""
        ...

    def auto_reply(self, request: str | None, reply: str = "") -> None:
        """Answer each text message `request` with `reply` without waking the actor; None ends that.

        It holds for all sockets of the actor, through hibernation: set it in `on_start`. Each text has at most 2,048 characters.
        """
        ...

    def check_write(self, what: str) -> None:
        """Raise `Invalid` unless a writing turn of this actor is running."""
        ...
