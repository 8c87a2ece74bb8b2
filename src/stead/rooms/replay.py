"""What a client missed while it was away.

What is published gets a sequence number and is kept in a bounded ring, in the turn that publishes it; sockets receive JSON text:

    {"seq": 7, "data": …}   the message with that number
    {"reset": 7}            all up to here must be fetched anew: the client is new, or was away for longer than the ring holds

A client that reconnects to `?since=N` gets the messages after N, in order, before anything published later, or a reset. It gets
them in one turn, so they are bounded: what one turn may send has a limit, and so has what may wait for a client.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from stead.api import Actor, Request, Socket, durable

_PREFIX = "replay:"
_DIGITS = 15  # keys sort like their numbers
_PAGE = 32  # messages that are read at once: each may have 2 MiB


class Replay(Actor):
    """A mixin for actors with sockets whose clients resume where they were."""

    replay_messages_max: ClassVar[int] = 1000
    """Messages that the ring holds."""

    replay_bytes_max: ClassVar[int] = 4 * 1024 * 1024
    """Bytes of messages that a client is sent again. More may not wait for a slow one: who missed more starts over."""

    replay_seq: int = durable(0)
    """The number of the last message published."""

    async def publish(self, data: Any) -> int:
        """Send `data`, anything that JSON can hold, to every socket and keep it in the ring. Returns its number."""
        self.replay_seq += 1
        await self.storage.put(_key(self.replay_seq), data)
        if self.replay_seq > self.replay_messages_max:
            await self.storage.delete(_key(self.replay_seq - self.replay_messages_max))
        self.broadcast({"seq": self.replay_seq, "data": data})
        return self.replay_seq

    async def on_connect(self, socket: Socket, request: Request) -> None:
        await super().on_connect(socket, request)
        since = _since(request)
        kept_from = max(0, self.replay_seq - self.replay_messages_max)  # the oldest number that all is known after
        missed = None
        if since is not None and kept_from <= since <= self.replay_seq:
            missed = await self._missed(since)
        if missed is None:
            socket.send({"reset": self.replay_seq})
            return
        for text in missed:
            socket.send(text)

    async def _missed(self, since: int) -> list[str] | None:
        """The messages after a number, as they were sent; None if they are too much, or not all kept: the ring was smaller once."""
        texts: list[str] = []
        left_bytes = self.replay_bytes_max
        while since < self.replay_seq:
            page = await self.storage.list(_PREFIX, start_after=_key(since), limit=_PAGE)
            if _key(since + 1) not in page:
                return None
            for key, data in page.items():
                since = int(key[len(_PREFIX) :])
                text = msgspec.json.encode({"seq": since, "data": data})
                left_bytes -= len(text)
                if left_bytes < 0:
                    return None
                texts.append(text.decode())
        return texts


def _key(seq: int) -> str:
    return f"{_PREFIX}{seq:0{_DIGITS}}"


def _since(request: Request) -> int | None:
    text = request.query_params.get("since", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
