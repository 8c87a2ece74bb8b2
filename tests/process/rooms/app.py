"""Rooms that echo, pass on, remember who left and how, and flood whoever asks for it."""

from __future__ import annotations

from stead import Actor, Request, Socket


class Room(Actor):
    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("close "):
            socket.close(int(message[6:]), "as you wish")
        elif isinstance(message, str) and message.startswith("flood "):
            for _ in range(int(message[6:])):
                self.broadcast(bytes(100_000))
        elif isinstance(message, str) and message.startswith("all "):
            self.broadcast(message[4:])
        else:
            socket.send(message)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        ends: list[object] = await self.storage.get("ends", [])
        await self.storage.put("ends", [*ends, [socket.id, code, reason]])

    async def fetch(self, request: Request) -> dict[str, object]:
        return {"ends": await self.storage.get("ends", []), "open": len(self.sockets())}
