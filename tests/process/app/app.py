"""Boxes that hold one text each, for what goes wrong between a client and the disk."""

from __future__ import annotations

from stead import Actor, HTTPException, Request, Service, durable, reads, route


class Box(Actor):
    written: int = durable(0)

    async def put(self, text: str) -> int:
        await self.storage.put("text", text)
        self.written += 1
        return self.written

    @reads
    async def get(self) -> str:
        return await self.storage.get("text", "")

    @reads
    async def count(self) -> int:
        return self.written


class Api(Service):
    @route("POST", "/boxes/{name}")
    async def put(self, request: Request, name: str) -> str:
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("text"), str):
            raise HTTPException(400, 'send {"text": "…"}')
        return str(await self.env.actor(Box).get(name).put(body["text"]))

    @route("GET", "/boxes/{name}")
    async def get(self, request: Request, name: str) -> str:
        return await self.env.actor(Box).get(name).get()

    @route("GET", "/boxes/{name}/count")
    async def count(self, request: Request, name: str) -> str:
        return str(await self.env.actor(Box).get(name).count())
