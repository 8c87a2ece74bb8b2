"""What carries messages between nodes: the border between channels and sockets.

A `Network` makes *wires*. A wire carries whole messages, in order, and tells its `Receiver` of each, and once of its end; it knows
nothing of what they mean. `websocket.py` is the real one, `stead.testing.MemoryNetwork` one that a seed delays and a test divides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MESSAGE_BYTES_MAX = 192 * 1024  # of one message of a wire: a batch of frames with a piece at its end, and room for their heads
FULL_BYTES = 8 * 1024 * 1024  # written and not sent yet, from which on a wire is full: what a busy link holds for some 10 ms
ROOM_BYTES = 2 * 1024 * 1024  # at which it has room again


class Wire(Protocol):
    """One end of a connection. After `close` or `abort` its receiver hears nothing more."""

    receiver: Receiver  # who hears what comes; may be another one from the next message on

    @property
    def address(self) -> str:
        """The other end's, for people to read."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether FULL_BYTES wait. What is written nevertheless waits as well."""
        ...

    def write(self, message: bytes) -> None:
        """Send a message of at most MESSAGE_BYTES_MAX; nothing once the wire is closed."""
        ...

    def close(self, reason: str) -> None:
        """Send what was written, then the reason, and end."""
        ...

    def abort(self) -> None:
        """End at once, without a word."""
        ...


class Receiver(Protocol):
    """Who gets what a wire brings. No method may raise."""

    def message(self, data: bytes) -> None:
        """The next message."""
        ...

    def room(self) -> None:
        """The wire was full and has room again."""
        ...

    def closed(self, reason: str) -> None:
        """The other end closed the wire or was lost. It is the last word, and is not said of what this side closed."""
        ...


class Listening(Protocol):
    """A place where others can dial."""

    @property
    def address(self) -> str:
        """ "host:port", with the port that was chosen where none was asked for."""
        ...

    async def close(self) -> None:
        """Let nobody in any more. Wires that were made stay."""
        ...


class Network(Protocol):
    """Makes wires."""

    async def dial(self, address: str, receiver: Callable[[Wire], Receiver]) -> None:
        """Connect to `address`; `receiver` is called with the wire as soon as it can be written to. Raises `OSError`."""
        ...

    async def listen(self, address: str, receiver: Callable[[Wire], Receiver]) -> Listening:
        """Call `receiver` with each wire that is dialled at `address`. Raises `OSError`, `Invalid` if it must not listen there."""
        ...
