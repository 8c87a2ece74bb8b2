"""A small HTTP API: notes by name, each an actor with durable attributes."""

from typing import Any

from stead import Actor, HTTPException, Request, Service, durable, reads, route


class Note(Actor):
    text: str = durable("")
    version: int = durable(0)

    async def write(self, text: str) -> int:
        self.text = text
        self.version += 1
        return self.version

    @reads
    async def read(self) -> dict[str, Any]:
        return {"text": self.text, "version": self.version}


class Api(Service):
    @route("GET", "/")
    async def index(self, request: Request) -> dict[str, Any]:
        page = await self.env.actor(Note).list(limit=100)
        return {"notes": [entry.name for entry in page.actors]}

    @route("PUT", "/notes/{name}")
    async def write(self, request: Request, name: str) -> dict[str, Any]:
        return {"version": await self.env.actor(Note).get(name).write((await request.body()).decode())}

    @route("GET", "/notes/{name}")
    async def read(self, request: Request, name: str) -> dict[str, Any]:
        note = await self.env.actor(Note).get(name).read()
        if note["version"] == 0:
            raise HTTPException(404, f"there is no note {name!r}")
        return note
