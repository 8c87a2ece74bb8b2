"""Chat rooms: one actor for each room, with its history in the room's own SQL database, and sockets that hear what is said."""

import json
from typing import Any

from stead import Actor, HTMLResponse, Request, Response, Service, Socket, reads, route

HISTORY_MESSAGES_MAX = 100  # told to who joins
TEXT_CHARS_MAX = 2_000


class ChatRoom(Actor):
    async def on_start(self) -> None:
        await self.sql.execute(
            "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, author TEXT NOT NULL, text TEXT NOT NULL)"
        )

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.set_state(request.query_params.get("name", "somebody")[:40])
        for message in await self.history():
            socket.send(message)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        text = json.loads(message)["text"]
        if isinstance(text, str) and 0 < len(text) <= TEXT_CHARS_MAX:
            await self.sql.execute("INSERT INTO messages (author, text) VALUES (?, ?)", socket.state, text)
            self.broadcast({"author": socket.state, "text": text})  # leaves when the row is on the disk

    @reads
    async def history(self) -> list[dict[str, Any]]:
        last = "SELECT id, author, text FROM messages ORDER BY id DESC LIMIT ?"
        return await self.sql.fetch_all(f"SELECT author, text FROM ({last}) ORDER BY id", HISTORY_MESSAGES_MAX)


class Web(Service):
    @route("GET", "/")
    async def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE)

    @route("GET", "/rooms/{room}/history")
    async def history(self, request: Request, room: str) -> list[dict[str, Any]]:
        return await self.env.actor(ChatRoom).get(room).history()


PAGE = """<!doctype html>
<meta charset="utf-8"><title>Chat</title>
<style>body { font: 16px system-ui; margin: 2rem auto; max-width: 40rem } input { font: inherit; width: 100% }</style>
<h1>lobby</h1><div id="said"></div><form><input placeholder="Say something" autofocus></form>
<script>
  const name = prompt("Your name") || "somebody";
  const socket = new WebSocket(`ws://${location.host}/parties/chat-room/lobby?name=${encodeURIComponent(name)}`);
  socket.onmessage = (event) => {
    const { author, text } = JSON.parse(event.data);
    const line = document.createElement("p");
    line.textContent = `${author}: ${text}`;
    document.getElementById("said").append(line);
  };
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    const input = event.target.elements[0];
    socket.send(JSON.stringify({ text: input.value }));
    input.value = "";
  };
</script>
"""
