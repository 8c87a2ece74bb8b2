"""Chat rooms: an actor for each, whose history is durable and whose sockets are told of everything once it is.

A client connects to /parties/chat-room/{room}?name=ann and sends {"text": "hello"}. It receives JSON text:

    {"type": "history", "messages": [...], "count": 2}    first, with what was said before
    {"type": "message", "id": 7, "name", "text", "at"}    for every message, its own too
    {"type": "join" | "leave", "name", "count"}           for who came and went; the number of those who are here
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stead import Actor, HTTPException, Request, Response, Service, Socket, durable, route

HISTORY_MAX = 200  # messages that a room remembers
TEXT_CHARS_MAX, NAME_CHARS_MAX = 2_000, 40
PAGE = Path(__file__).parent / "web"
PARTYSOCKET = Path(__file__).parent / "node_modules" / "partysocket" / "dist"  # from `npm ci`, as published


class ChatRoom(Actor):
    """One room. What is said is a key each, so that a long history costs a message nothing."""

    said: int = durable(0)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        name = socket.set_state(request.query_params.get("name", "").strip()[:NAME_CHARS_MAX] or "somebody")
        count = len(self.sockets())
        socket.send({"type": "history", "messages": await self._history(), "count": count})
        self.broadcast({"type": "join", "name": name, "count": count}, exclude=[socket])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        text = _text_of(message)
        if text is None:
            socket.send({"type": "error", "error": f'send {{"text": "…"}} of 1 to {TEXT_CHARS_MAX:,} characters'})
            return
        self.said += 1
        said = {"id": self.said, "name": socket.state, "text": text, "at": round(self.env.now().timestamp() * 1000)}
        await self.storage.put(_key(self.said), said)
        if self.said > HISTORY_MAX:
            await self.storage.delete(_key(self.said - HISTORY_MAX))
        self.broadcast({"type": "message", **said})

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        self.broadcast({"type": "leave", "name": socket.state, "count": len(self.sockets())})

    async def fetch(self, request: Request) -> dict[str, Any]:
        if request.method != "GET" or not request.url.path.endswith("/history"):
            raise HTTPException(404, "a room answers GET …/history, and sockets")
        return {"room": self.id.name, "messages": await self._history(), "count": len(self.sockets())}

    async def _history(self) -> list[dict[str, Any]]:
        return list((await self.storage.list("said:")).values())


def _key(number: int) -> str:
    return f"said:{number:012}"


def _text_of(message: str | bytes) -> str | None:
    """The text of a message that a client sent, None if it is none."""
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return None
    text = body.get("text") if isinstance(body, dict) else None
    return text if isinstance(text, str) and 0 < len(text.strip()) <= TEXT_CHARS_MAX else None


class Web(Service):
    """The page, and the client that it loads."""

    @route("GET", "/")
    async def page(self, request: Request) -> Response:
        return _file(PAGE / "index.html")

    @route("GET", "/{name}")
    async def part(self, request: Request, name: str) -> Response:
        if name not in {"chat.js", "chat.css"}:
            raise HTTPException(404, f"there is no {name}")
        return _file(PAGE / name)

    @route("GET", "/partysocket/{name}")
    async def partysocket(self, request: Request, name: str) -> Response:
        if name not in {"index.js", "ws.js"}:
            raise HTTPException(404, "of partysocket there are index.js and ws.js")
        if not PARTYSOCKET.is_dir():
            raise HTTPException(503, "partysocket is not installed: run `npm ci` in examples/chat")
        return _file(PARTYSOCKET / name)


def _file(path: Path) -> Response:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    return Response(path.read_bytes(), media_type=kinds[path.suffix], headers={"cache-control": "no-cache"})
