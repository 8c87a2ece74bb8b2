"""What happened while you were away, and what happens now: a room for each user, in which only the platform speaks."""

from __future__ import annotations

from stead import Namespace, Service

from .chat import ChatRoom

AUTHOR = "platform"
OF_ONE = "@"  # begins the names of these rooms; no user's name begins with it


def room_of(rooms: Namespace[ChatRoom], user: str) -> ChatRoom:
    return rooms.get(OF_ONE + user)


class Notifications(Service):
    """Tells users things, on their sockets and by mail. Private: only other units can call it."""

    async def notify(self, users: list[str], text: str) -> None:
        for user in users:
            await room_of(self.env.actor(ChatRoom), user).post(AUTHOR, text)
        await self.env.EMAIL_JOBS.send_batch({"to": user, "text": text} for user in users)

    async def unread(self, user: str) -> list[str]:
        return [message["text"] for message in await room_of(self.env.actor(ChatRoom), user).messages()]

    async def mark_read(self, user: str) -> None:
        await room_of(self.env.actor(ChatRoom), user).clear()
