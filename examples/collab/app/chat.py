"""Chat rooms: who said what, the last messages kept, and told to who listens."""

from __future__ import annotations

import json
from typing import TypedDict

from stead import Actor, Request, Socket, durable, reads

MESSAGES_KEPT = 200


class ChatMessage(TypedDict):
    id: int
    author: str
    text: str


class ChatRoom(Actor):
    """One room. Messages are numbered from 1, and a number is never used twice. A socket gets the kept ones, then each new one."""

    last_id: int = durable(0)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        for message in await self.messages():
            socket.send(json.dumps(message))

    async def post(self, author: str, text: str) -> int:
        """Add a message and return its number. The oldest goes when the room is full."""
        self.last_id += 1
        message = ChatMessage(id=self.last_id, author=author, text=text)
        await self.storage.put(_key(self.last_id), message)
        await self.storage.delete(_key(self.last_id - MESSAGES_KEPT))
        self.broadcast(json.dumps(message))
        return self.last_id

    @reads
    async def messages(self, after: int = 0) -> list[ChatMessage]:
        """Messages with a number above `after`, the oldest first."""
        found = await self.storage.list("message:", start_after=_key(after))
        return list(found.values())

    async def clear(self) -> None:
        await self.storage.delete_many(list(await self.storage.list("message:")))


def _key(number: int) -> str:
    return f"message:{number:016}"  # as text they sort as numbers do
