"""Chat rooms: one actor for each room, with its history in the room's own SQL database."""

from typing import Any

from stead import Actor, HTTPException, Request, Service, reads, route

HISTORY_MESSAGES_MAX = 100  # in one answer


class ChatRoom(Actor):
    async def on_start(self) -> None:
        await self.sql.execute(
            "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, author TEXT NOT NULL, text TEXT NOT NULL)"
        )

    async def post(self, author: str, text: str) -> int:
        await self.sql.execute("INSERT INTO messages (author, text) VALUES (?, ?)", author, text)
        return int(await self.sql.fetch_value("SELECT max(id) FROM messages"))  # type: ignore[arg-type]

    @reads
    async def history(self, after: int = 0) -> list[dict[str, Any]]:
        return await self.sql.fetch_all(
            "SELECT id, author, text FROM messages WHERE id > ? ORDER BY id LIMIT ?", after, HISTORY_MESSAGES_MAX
        )


class Api(Service):
    @route("POST", "/rooms/{room}/messages")
    async def post(self, request: Request, room: str) -> dict[str, Any]:
        match await request.json():
            case {"author": str(author), "text": str(text)}:
                return {"id": await self.env.actor(ChatRoom).get(room).post(author, text)}
        raise HTTPException(400, 'send {"author": "…", "text": "…"}')

    @route("GET", "/rooms/{room}/messages")
    async def history(self, request: Request, room: str) -> dict[str, Any]:
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit():
            raise HTTPException(400, "after is the number of the last message you have seen")
        return {"messages": await self.env.actor(ChatRoom).get(room).history(int(after))}
