"""A party for each thing that PartyKit's clients rely on. README.md says what they answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from stead import Actor, AlarmInfo, Env, Request, Response, Socket, StreamingResponse, durable
from stead.yjs import YRoom

EVENT_S = 0.05


class Refusal(Exception):
    """An error with a status of its own: its `code`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Main(Actor):
    """Echoes text, passes bytes on, and does what a JSON object says."""

    number: int = durable(0)

    def connection_tags(self, socket: Socket, request: Request) -> list[str]:
        return [tag for tag in request.query_params.get("tags", "").split(",") if tag]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        if "refuse" in request.query_params:
            raise RuntimeError(request.query_params["refuse"])
        if "greet" in request.query_params:
            socket.send({"greeting": await self.env.actor(Counter).get(self.room).note(f"{socket.id} came")})

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.broadcast(message)
        else:
            await self.obey(socket, message, _object(message))

    async def obey(self, socket: Socket, text: str, order: dict[str, Any]) -> None:
        """Do what the object in a text says, if it says anything we know. Commands answer nothing, questions do."""
        match order:
            case {"broadcast": what}:
                exclude = [socket] if order.get("exclude_self") else []
                self.broadcast(what if isinstance(what, str) else json.dumps(what), exclude)
            case {"set_state": state}:
                socket.set_state(state)
            case {"get_state": _}:
                socket.send({"state": socket.state})
            case {"tag": str(tag)}:
                socket.send({"tag": tag, "ids": [each.id for each in self.sockets(tag)]})
            case {"who": _}:
                socket.send({"id": socket.id, "uri": socket.uri, "tags": list(socket.tags)})
            case {"count": _}:
                socket.send({"count": len(self.sockets())})
            case {"close": [int(code), str(reason)]}:
                socket.close(code, reason)
            case {"put": [str(key), value]}:
                await self.storage.put(key, value)
            case {"get": str(key)}:
                socket.send({"key": key, "value": await self.storage.get(key)})
            case {"alarm_ms": int(delay_ms)}:
                await self.storage.set_alarm(timedelta(milliseconds=delay_ms))
            case {"throw": str(error)}:
                await self.storage.put("thrown", error)
                socket.set_state({"thrown": error})
                self.broadcast({"thrown": error})
                raise RuntimeError(error)
            case _:
                socket.send({"echo": text, "id": socket.id, **self.about()})

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        here = [each.id for each in self.sockets()]
        self.broadcast({"closed": socket.id, "code": code, "reason": reason, "here": here}, tag="watch")

    async def on_error(self, socket: Socket, error: Exception) -> None:
        self.broadcast({"failed": socket.id, "error": str(error)}, tag="watch")

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.broadcast({"alarm": self.room})

    async def fetch(self, request: Request) -> Response | dict[str, Any]:
        path = request.url.path
        if path.endswith("/events"):
            return StreamingResponse(_events(), media_type="text/event-stream")
        if path.endswith("/throw"):
            raise Refusal(request.query_params["message"], int(request.query_params["code"]))
        if request.method == "POST" and path.endswith("/increment"):
            self.number += 1
            return {"number": self.number}
        body = (await request.body()).decode(errors="replace")
        return {"method": request.method, "path": path, "query": request.url.query, "body": body, **self.about()}

    @property
    def room(self) -> str:
        return self.id.name or str(self.id)

    def about(self) -> dict[str, Any]:
        """What every answer says of its room."""
        return {"room": self.room}


def _object(text: str) -> dict[str, Any]:
    """The JSON object that a text is, or an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def _events() -> AsyncIterator[str]:
    """Server-sent events without end."""
    for number in itertools.count(1):
        yield f"data: {number}\n\n"
        await asyncio.sleep(EVENT_S)  # noqa: TID251 - an application has no other


class Hib(Main):
    """As `main`, but leaves memory after a second, and says how often it was built."""

    hibernate_after_s = 1.0
    constructed: int = durable(0)

    async def on_start(self) -> None:
        self.constructed += 1
        self.ctx.auto_reply("ping", "pong")

    def about(self) -> dict[str, Any]:
        return {"constructed": self.constructed, **super().about()}


class Counter(Actor):
    """Numbers what it is told, and tells everybody."""

    async def on_start(self) -> None:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")

    async def note(self, text: str) -> int:
        number = await self.sql.fetch_value("INSERT INTO notes (text) VALUES (?) RETURNING number", text)
        assert isinstance(number, int)
        self.broadcast({"count": number, "text": text})
        return number

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await self.note(message if isinstance(message, str) else message.decode(errors="replace"))

    async def fetch(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            return {"count": await self.note((await request.body()).decode(errors="replace"))}
        texts = [row["text"] for row in await self.sql.fetch_all("SELECT text FROM notes ORDER BY number")]
        return {"count": len(texts), "texts": texts}


class Auth(Actor):
    """Lets in who says `?token=ok`, as the user that the token stands for."""

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        return _admitted(request)

    @classmethod
    async def before_request(cls, request: Request, env: Env) -> Request | Response | None:
        return _admitted(request)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.set_state(request.headers["x-user"])

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send({"echo": message, "user": socket.state})

    async def fetch(self, request: Request) -> dict[str, Any]:
        return {"user": request.headers["x-user"]}


def _admitted(request: Request) -> Request | Response:
    match request.query_params.get("token"):
        case "ok":
            headers = [(name, value) for name, value in request.scope["headers"] if name != b"x-user"]
            return Request({**request.scope, "headers": [*headers, (b"x-user", b"ann")]}, request.receive)
        case "throw":
            raise ValueError("the token is spent")
        case _:
            return Response("no token, no entry", 403)


class P2p(Actor):
    """Asks another party: the `counter` of the same room notes what this one is told."""

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        counter = self.env.actor(Counter).get(self.id.name or "")
        socket.send({"counter": await counter.note(str(message))})

    async def fetch(self, request: Request) -> dict[str, Any]:
        counter = self.env.actor(Counter).get(self.id.name or "")
        return {"counter": await counter.note((await request.body()).decode(errors="replace"))}


class Yjs(YRoom):
    """A shared document, kept. What one client of `y-partyserver` sends beside it goes to all of them."""

    async def on_custom_message(self, socket: Socket, message: str) -> None:
        self.broadcast_custom_message(message)


class Yro(YRoom):
    """A shared document that `?ro=1` may only read, and `?close=4403` is closed with."""

    def is_read_only(self, socket: Socket, request: Request) -> bool:
        return request.query_params.get("ro") == "1"

    async def on_connect(self, socket: Socket, request: Request) -> None:
        await super().on_connect(socket, request)
        if "close" in request.query_params:
            socket.close(int(request.query_params["close"]), "on demand")
