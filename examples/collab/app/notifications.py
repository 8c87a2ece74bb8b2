"""What happened while you were away, and what happens now."""

from __future__ import annotations

from stead import Actor, Request, Service, Socket, durable, reads

UNREAD_MAX = 100  # for one user; beyond it the oldest go


class Inbox(Actor):
    """The unread notifications of one user, whose open sockets hear of each new one."""

    unread: list[str] = durable(factory=list)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        for text in self.unread:
            socket.send(text)

    async def add(self, text: str) -> None:
        self.unread.append(text)
        self.broadcast(text)
        del self.unread[:-UNREAD_MAX]

    @reads
    async def show(self) -> list[str]:
        return self.unread

    async def clear(self) -> None:
        self.unread.clear()


class Notifications(Service):
    """Tells users things. Private: only other units can call it."""

    async def notify(self, users: list[str], text: str) -> None:
        for user in users:
            await self.env.actor(Inbox).get(user).add(text)
        await self.env.EMAIL_JOBS.send_batch({"to": user, "text": text} for user in users)

    async def unread(self, user: str) -> list[str]:
        return await self.env.actor(Inbox).get(user).show()

    async def mark_read(self, user: str) -> None:
        await self.env.actor(Inbox).get(user).clear()
