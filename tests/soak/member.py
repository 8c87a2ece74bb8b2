"""What one socket of the soak sends, what it must be sent, and whether it was: no network, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True)
class Load:
    """So many sockets in so many rooms, each sending so many messages a second."""

    sockets: int = 500
    rooms: int = 20
    rate: float = 10.0
    seconds: float = 60.0

    @property
    def messages(self) -> int:
        """How many one socket sends."""
        return round(self.seconds * self.rate)

    @property
    def room_size(self) -> int:
        return self.sockets // self.rooms

    def is_broadcast(self, member: int, message: int) -> bool:
        """Members take turns, so that a room's broadcasts are spread over time."""
        return message % self.room_size == member

    def broadcasts_of(self, member: int) -> list[int]:
        return [message for message in range(self.messages) if self.is_broadcast(member, message)]

    def echoes_of(self, member: int) -> list[int]:
        return [message for message in range(self.messages) if not self.is_broadcast(member, message)]


@dataclass
class Member:
    """A socket by its number in its room, and everything that it was sent, in order."""

    load: Load
    room: int
    number: int
    due_s: list[float] = field(default_factory=list)  # of its messages
    echoes: list[int] = field(default_factory=list)
    heard: list[tuple[int, int]] = field(default_factory=list)  # broadcasts: whose, and which message of theirs
    echo_s: list[float] = field(default_factory=list)  # from when a message was due
    broadcast_s: list[float] = field(default_factory=list)
    end: str = ""  # why its connection ended before its time

    def schedule(self, begin_s: float) -> None:
        """Set when its messages are due: a room's sockets do not send at once."""
        begin_s += self.number / self.load.room_size / self.load.rate
        self.due_s = [begin_s + message / self.load.rate for message in range(self.load.messages)]

    def text(self, message: int) -> str:
        """The message number `message`, as `examples/parties` understands it."""
        return f'{{"broadcast": [{self.number}, {message}]}}' if self.load.is_broadcast(self.number, message) else str(message)

    def take(self, data: str | bytes, room: Sequence[Member], now_s: float) -> None:
        """Note what it was sent."""
        content: Any = msgspec.json.decode(data)
        if isinstance(content, dict):
            message = int(content["echo"])
            self.echoes.append(message)
            self.echo_s.append(now_s - self.due_s[message])
        else:
            sender, message = content
            self.heard.append((sender, message))
            self.broadcast_s.append(now_s - room[sender].due_s[message])

    def wanted(self) -> int:
        """How many messages it must be sent."""
        load = self.load
        return len(load.echoes_of(self.number)) + sum(len(load.broadcasts_of(member)) for member in range(load.room_size))

    def faults(self, room: Sequence[Member]) -> list[str]:
        """What is wrong with what it was sent."""
        found = [f"ended: {self.end}"] if self.end else []
        found += _difference("echoes", self.echoes, self.load.echoes_of(self.number))
        for sender in range(self.load.room_size):
            heard = [message for who, message in self.heard if who == sender]
            found += _difference(f"broadcasts of {sender}", heard, self.load.broadcasts_of(sender))
        if self.heard != room[0].heard:
            found.append("heard its room in another order than its first member did")
        return [f"socket {self.number} of room {self.room}: {fault}" for fault in found]


def _difference(what: str, got: Sequence[int], wanted: Sequence[int]) -> list[str]:
    if got == wanted:
        return []
    lost, doubled = len(set(wanted) - set(got)), len(got) - len(set(got))
    return [f"{what}: {lost} lost, {doubled} doubled" if lost or doubled else f"{what}: out of order"]
