"""A room that says what it hears to everyone, and counts its visits."""

from __future__ import annotations

from stead import Actor, Request, Service, Socket, durable, route


class Main(Actor):
    visits: int = durable(0)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        self.broadcast(message)

    async def fetch(self, request: Request) -> str:
        self.visits += 1
        return str(self.visits)


class Web(Service):
    @route("GET", "/")
    async def hello(self, request: Request) -> str:
        return "hello"
