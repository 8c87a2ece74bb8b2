"""An ASGI application as a service: `handler = "shop.web:app"`.

The application runs when its response is sent, straight between the server and itself, so what it streams is never held here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stead.api import CURRENT_ENV, Env, Response
from stead.errors import AppError
from stead.events import Fetch
from stead.runtime.tasks import Tasks

_log = logging.getLogger("stead.mounted")
_SOCKET_KEYS = ("type", "scheme", "subprotocols", "extensions")  # what tells a WebSocket from its handshake's request
_ASGI = {"version": "3.0", "spec_version": "2.0"}


class AsgiResponse(Response):
    """The response that an ASGI application will give to `event` once this is called. Its status is known only then.

    It runs on the request it was made for, whatever scope it is called with: a service may pass it on as its own answer. Called
    for a WebSocket's handshake it is that socket's application.
    """

    def __init__(self, app: ASGIApp, event: Fetch, env: Env, state: dict[str, Any] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = []
        self._app = app
        self._event = event
        self._env = env
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = {**self._event.scope, "asgi": scope["asgi"], "root_path": ""}
        if scope["type"] == "websocket":
            own |= {key: scope[key] for key in _SOCKET_KEYS}
        else:
            receive = self._event.receive
        if self._state is not None:
            own["state"] = self._state.copy()
        token = CURRENT_ENV.set(self._env)
        try:
            await self._app(own, receive, send)
        finally:
            CURRENT_ENV.reset(token)


class Lifespan:
    """The start and end of a mounted application by ASGI's lifespan protocol. One that does not speak it is fine."""

    def __init__(self, app: ASGIApp, env: Env, name: str) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._env = env
        self._name = name
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._asked = 0
        self._problem: str | None = None

    async def start(self, tasks: Tasks) -> None:
        """Run the application's startup in a task of `tasks`. Raises `AppError` with its message when it says that it failed."""
        tasks.start(self._run())
        await self._ready.wait()
        self._raise("start")

    async def close(self) -> None:
        """Run its shutdown and wait for it. Raises `AppError` when it says that it failed."""
        self._closing.set()
        await self._ended.wait()
        self._raise("shut down")

    def _raise(self, what: str) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise AppError(f"the application mounted as {self._name!r} failed to {what}: {problem.strip()}")

    async def _run(self) -> None:
        CURRENT_ENV.set(self._env)
        try:
            await self._app({"type": "lifespan", "asgi": _ASGI, "state": self.state}, self._receive, self._send)
        except Exception as exc:  # noqa: BLE001 - ASGI: an application that raises here does not speak the protocol
            _log.debug("the application mounted as %r does not speak ASGI's lifespan protocol: %r", self._name, exc)
        finally:
            self._ready.set()
            self._ended.set()

    async def _receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        await self._closing.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._problem = message.get("message") or "it gave no reason"
        if message["type"].startswith("lifespan.startup."):
            self._ready.set()
        else:
            self._ended.set()
