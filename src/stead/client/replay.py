"""The client's half of `stead.rooms.Replay`: what a room published, once and in order, over however many connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from stead.client.room import RoomSocket

SINCE = "since"


class Published(msgspec.Struct, frozen=True):
    """What the room published as its message number `seq`."""

    seq: int
    data: Any


class Reset(msgspec.Struct, frozen=True):
    """All that was published up to number `seq` must be fetched anew: this client is new, or was away for too long."""

    seq: int


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either `seq` and `data`, or `reset`, and nothing else: other messages may well have a `seq` of their own."""

    seq: int | None = None
    data: Any = None
    reset: int | None = None


async def replayed(socket: RoomSocket, since: int | None = None) -> AsyncIterator[Published | Reset | str | bytes]:
    """The messages of a room with `Replay`: what it published, each number once and in order, and other messages as they are.

    The socket goes on after the last number that was taken here, whenever it comes back. `since` is the last one of an earlier
    socket; give it before the first connection is open.
    """
    if since is not None:
        socket.resume[SINCE] = str(since)
    async for message in socket:
        item = _opened(message)
        if isinstance(item, Published):
            if since is not None and item.seq <= since:
                continue
            since = item.seq
        elif isinstance(item, Reset):
            since = item.seq
        else:
            yield item
            continue
        socket.resume[SINCE] = str(since)
        yield item


def _opened(message: str | bytes) -> Published | Reset | str | bytes:
    """The content of an envelope; any other message itself."""
    if isinstance(message, str) and message.startswith("{"):
        try:
            envelope = msgspec.json.decode(message, type=_Envelope)
        except msgspec.DecodeError:
            return message
        if envelope.seq is not None:
            return Published(envelope.seq, envelope.data)
        if envelope.reset is not None:
            return Reset(envelope.reset)
    return message
