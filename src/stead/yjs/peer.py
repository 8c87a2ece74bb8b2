"""What a room knows of one connection. It is the connection's attachment, so it outlives the instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stead import codec
from stead.api import Socket
from stead.yjs.awareness import UNKNOWN
from stead.yjs.protocol import Client

KEPT_BYTES_MAX = 12 * 1024  # of states: an attachment may have 16 KiB, and 100 clients' numbers take some


class Peer(msgspec.Struct, array_like=True):
    """A connection: whether it may only read, whether it understands text, was told that it may not write, sends a batch."""

    read_only: bool = False
    takes_text: bool = False
    was_denied: bool = False
    in_batch: bool = False
    clients: list[tuple[int, int, bytes]] = []

    @classmethod
    def of(cls, socket: Socket) -> Peer | None:
        """The one that was kept with a connection, None if the room did not greet it."""
        kept: Any = socket.attachment
        return None if kept is None else codec.convert(kept, cls)

    def keep(self, socket: Socket) -> None:
        socket.attachment = self

    def speak_for(self, clients: Sequence[Client]) -> bool:
        """Remember a connection's clients; of those who say too much only that they are there. Returns whether that is new."""
        is_short = sum(len(client.state) for client in clients) <= KEPT_BYTES_MAX
        before, self.clients = self.clients, [(client, clock, state if is_short else UNKNOWN) for client, clock, state in clients]
        return self.clients != before

    def spoken_for(self) -> list[Client]:
        return [Client(*client) for client in self.clients]
