"""A WebSocket as an actor sees it: the protocol behind `socket` in the hooks of `Actor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

T = TypeVar("T")

Sendable = str | bytes | bytearray | memoryview | dict[str, Any] | list[Any]
"""What can be sent: text, bytes, or a dict or list, which goes as JSON text."""


class Socket(Protocol):
    """An open connection of a client to one actor. It outlives the instance: a hibernated actor keeps its sockets, tags and state.

    One connection is the same object in every hook, so it may be a key of a dict. Two connections never are, even when a client
    comes back with the id of one that is still half open: then the newer one takes over and the older one is closed.
    """

    @property
    def id(self) -> str:
        """The client's own id (`_pk` of partysocket), or one that the server made. Also a tag."""
        ...

    @property
    def uri(self) -> str:
        """The address that the client connected to: path and query, as sent."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """What `connection_tags` gave, and the id."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether what is sent can still arrive."""
        ...

    @property
    def state(self) -> Any:
        """The value last set, None before that. A copy: change it with `set_state`."""
        ...

    @overload
    def set_state(self, value: Callable[[Any], T]) -> T: ...
    @overload
    def set_state(self, value: T) -> T: ...
    def set_state(self, value: Any) -> Any:
        """Keep a small value with the connection, or what a function makes of the present one. Returns it.

        It survives hibernation and ends with the connection. A turn that raises leaves it as it was. Raises `Invalid` over 16 KiB
        encoded, and outside a turn.
        """
        ...

    @property
    def attachment(self) -> Any:
        """A second value beside `state`, with the same rules: for libraries, so that the application's state stays its own."""
        ...

    @attachment.setter
    def attachment(self, value: Any) -> None: ...

    def send(self, message: Sendable) -> None:
        """Send a message once the turn's writes are durable; a turn that raises sends nothing. A closed socket ignores it."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection once the turn's writes are durable. `on_close` runs.

        `code` is 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999, `reason` at most 123 bytes of UTF-8; else `Invalid`.
        """
        ...
