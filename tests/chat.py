"""Actors with sockets for tests: one that says what it hears and does what it is told, and one that has no hooks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from stead import Actor, AlarmInfo, Request, Socket, durable, reads
from stead.clock import sleep
from stead.testing import TestApp


class Chat(Actor):
    """Says what it hears, and does what it is told."""

    heard: ClassVar[list[Any]] = []
    constructed: ClassVar[int] = 0
    texts: list[str] = durable(factory=list)

    async def on_start(self) -> None:
        Chat.constructed += 1
        self.seen: dict[Socket, int] = {}

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        return [tag for tag in request.query_params.get("tags", "").split(",") if tag]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        self.heard.append(("connect", socket.id, socket.uri, request.query_params.get("n")))
        if "refuse" in request.query_params:
            self.texts.append("refused")
            socket.send("never")
            self.broadcast("never")
            raise ValueError(request.query_params["refuse"])
        await sleep(float(request.query_params.get("wait", 0)))
        self.broadcast(f"{socket.id} joined", exclude=[socket])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.heard.append(("message", socket.id, message))
        self.seen[socket] = self.seen.get(socket, 0) + 1
        if isinstance(message, bytes):
            self.broadcast(message)
            return
        command, _, rest = message.partition(" ")
        await getattr(self, f"_{command}", self._say)(socket, rest)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.heard.append(("close", socket.id, code, reason, socket.state, [other.id for other in self.sockets()]))
        self.broadcast(f"{socket.id} left")

    async def _say(self, socket: Socket, rest: str) -> None:
        self.texts.append(rest)
        self.broadcast(f"{socket.id}: {rest}")

    async def _state(self, socket: Socket, rest: str) -> None:
        socket.set_state(rest)
        socket.attachment = [rest]
        socket.send({"state": socket.state, "attachment": socket.attachment})

    async def _show(self, socket: Socket, rest: str) -> None:
        socket.send([socket.state, socket.attachment, [*socket.tags], self.seen[socket]])

    async def _fail(self, socket: Socket, rest: str) -> None:
        self.texts.append("failed")
        socket.set_state("failed")
        socket.close(4000)
        self.broadcast("never")
        raise ValueError(rest)

    async def _close(self, socket: Socket, rest: str) -> None:
        socket.close(4000, rest)
        assert not socket.is_open and socket not in self.sockets()
        socket.send("never")

    async def _tags(self, socket: Socket, rest: str) -> None:
        socket.send([other.id for other in self.sockets(rest)])

    async def _part(self, socket: Socket, rest: str) -> None:
        socket.set_state("before")
        socket.send("before")
        try:
            async with self.storage.transaction():
                socket.set_state("inside")
                socket.send("inside")
                assert socket.state == "inside"
                raise ValueError
        except ValueError:
            socket.send([socket.state])
        async with self.storage.transaction():
            socket.send("after")

    async def say(self, text: str) -> int:
        self.texts.append(text)
        self.broadcast(text)
        return len(self.sockets())

    async def count(self) -> int:
        return len(self.sockets())

    @reads
    async def whisper(self, text: str) -> list[str]:
        self.broadcast(text)
        return self.texts

    @reads
    async def scribble(self) -> None:
        self.sockets()[0].set_state("written")

    async def send_and_call(self, text: str) -> None:
        self.broadcast(text)
        await self.env.CHAT.get("other").count()
        self.broadcast("never")
        raise ValueError

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.broadcast(f"alarm {alarm.name}")

    async def wake(self) -> None:
        await self.alarms.set("soon", 1)


class Deaf(Actor):
    """Takes sockets, and has nothing to do when they speak or leave."""

    started: ClassVar[int] = 0
    errors: ClassVar[list[str]] = []

    async def on_start(self) -> None:
        Deaf.started += 1

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.send("hello")


def chats() -> TestApp:
    """An application of chats, none of which has heard anything."""
    Chat.heard, Chat.constructed = [], 0
    return TestApp.of(actors={"chat": Chat})


async def settle(app: TestApp) -> None:
    """Until nothing goes on any more."""
    await app.clock.advance(1)
