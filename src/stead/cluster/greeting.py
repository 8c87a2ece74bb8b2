"""A wire before it is a channel: the handshake on it, bounded in time and in bytes.

It ends in one of two ways: the door opens a channel on its wire, or it fails and the wire is closed with the reason.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from stead.cluster.handshake import Dialled, Dialler, Refused
from stead.cluster.network import Wire

GREETING_S = 3.0  # from the connection to the last message
GREETING_BYTES_MAX = 1024  # of one message; it has four
OTHERWISE = "there is a channel, or will be, on another connection"  # no failure


class Door(Protocol):
    """Who decides about a peer that has proved itself."""

    def admit(self, greeting: Greeting) -> None:
        """Raise `Refused` if there must be no channel."""
        ...

    def enter(self, greeting: Greeting) -> None:
        """Make the wire a channel."""
        ...

    def failed(self, greeting: Greeting, reason: str) -> None:
        """There will be no channel."""
        ...


class Greeting:
    """The receiver of a wire until both sides know each other."""

    def __init__(self, wire: Wire, handshake: Dialler | Dialled, door: Door) -> None:
        self.wire = wire
        self.handshake = handshake
        self._door = door
        self._is_over = False
        self._timer = asyncio.get_running_loop().call_later(
            GREETING_S, self.fail, f"it took longer than {GREETING_S:g} s to prove itself"
        )
        if isinstance(handshake, Dialler):
            wire.write(handshake.hello)

    @property
    def peer(self) -> int:
        """The peer's incarnation, 0 until it has proved itself."""
        return self.handshake.peer

    def fail(self, reason: str) -> None:
        """Close the wire with the reason. Nothing if it is over."""
        if not self._is_over:
            self.wire.close(reason)
            self._end(reason)

    def cut_off(self, reason: str) -> None:
        """Drop the wire, for the reason. Nothing if it is over."""
        if not self._is_over:
            self.wire.abort()
            self._end(reason)

    def abandon(self) -> None:
        """Drop the wire, and tell nobody here. Nothing if it is over."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            self.wire.close(OTHERWISE)

    def message(self, data: bytes) -> None:
        try:
            if len(data) > GREETING_BYTES_MAX:
                raise Refused(f"it greets with {len(data):,} bytes")
            answer = self.handshake.receive(data)
            if self.handshake.peer:
                self._door.admit(self)
        except Refused as exc:
            self.fail(str(exc))
            return
        if answer:
            self.wire.write(answer)
        if self.handshake.peer:
            self._is_over = True
            self._timer.cancel()
            self._door.enter(self)

    def room(self) -> None:
        """A greeting fills no wire."""

    def closed(self, reason: str) -> None:
        if not self._is_over:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._timer.cancel()
        self._door.failed(self, reason)
