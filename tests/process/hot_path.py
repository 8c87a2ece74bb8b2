"""The hot path in process, for callgrind to count: `python hot_path.py DATA [slow]` runs `PHASES`, one after the other.

Before each phase and after the last one it calls `getpgrp`, a function of the C library that nothing else here has a use for:
callgrind is told to write down what it has counted whenever that is called, and needs no help from the interpreter. `slow` plants a
slow-down, of everything but the greeting that the rest is compared with.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from stead import Actor
from stead.clock import SystemClock
from stead.ids import Chance
from stead.node import Node, Settings, load_application
from stead.storage.contract import Engine
from stead.storage.memory import MemoryEngine
from stead.storage.sqlite import SqliteEngine

App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

COUNTER = Path(__file__).parents[2] / "examples" / "counter"
STARLETTE = "starlette"
CLIENTS = 16
WARM_UP, REQUESTS = 10, 20  # of each client; after ten the interpreter has specialized what it runs
HEADERS = [
    (b"host", b"127.0.0.1:8700"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
]


@dataclass(frozen=True)
class Phase:
    """Each client asks for a path of its own, one request after the other."""

    name: str
    app: str
    method: str
    path: str


PHASES = (
    Phase(STARLETTE, "starlette", "GET", "/"),
    Phase("GET /", "memory", "GET", "/"),
    Phase("GET /kv", "memory", "GET", "/kv/{}"),
    Phase("POST /kv", "memory", "POST", "/kv/{}"),
    Phase("POST /kv, sqlite", "sqlite", "POST", "/kv/{}"),
    Phase("POST /sql, sqlite", "sqlite", "POST", "/sql/{}"),
)


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    assert message.get("status", 200) == 200, message


async def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def client(app: App, method: str, path: str, requests: int) -> None:
    """Ask as a server would: a scope and a task for each request."""
    loop = asyncio.get_running_loop()
    for _ in range(requests):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(HEADERS),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8700),
        }
        await loop.create_task(app(scope, receive, send))


async def clients(app: App, phase: Phase, requests: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(app, phase.method, phase.path.format(number), requests))


async def make_node(engine: Engine, data: Path) -> Node:
    node = Node(load_application(COUNTER), engine, Settings(data=data), SystemClock(), Chance(1))
    await node.start()
    return node


def slowed(app: App) -> App:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        json.dumps(scope, default=repr)
        await app(scope, receive, send)

    return call


async def start(data: Path, is_slow: bool) -> tuple[dict[str, App], Engine]:
    Actor.hibernate_after_s = 3600.0  # who has warmed up is still there when it is counted, however slow the machine
    engine = SqliteEngine.open(data, SystemClock())
    apps: dict[str, App] = {
        "memory": (await make_node(MemoryEngine(), data)).gateway,
        "sqlite": (await make_node(engine, data)).gateway,
    }
    if is_slow:
        apps = {name: slowed(app) for name, app in apps.items()}
    return {"starlette": Starlette(routes=[Route("/", greet)]), **apps}, engine


def main(data: Path, is_slow: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        apps, engine = runner.run(start(data, is_slow))
        for phase in PHASES:
            runner.run(clients(apps[phase.app], phase, WARM_UP))
        gc.collect()
        gc.disable()
        for phase in PHASES:
            os.getpgrp()
            runner.run(clients(apps[phase.app], phase, REQUESTS))
        os.getpgrp()
        runner.run(engine.close())


if __name__ == "__main__":
    main(Path(sys.argv[1]), "slow" in sys.argv[2:])
