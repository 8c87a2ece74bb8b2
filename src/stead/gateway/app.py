"""The gateway: an ASGI application between a server and the units.

A request is admitted (host, sizes), becomes a `Fetch` for the public actor at its path or the service at its host, and its response
is sent: at once if it is whole, else by running it. The handshake of a WebSocket goes the same way: a `Handover` as the answer
gives the connection to an actor, any other is sent instead of the upgrade. Whatever fails before the response began becomes a
problem; what fails later is raised, so that the server closes the connection and half an answer never looks like a whole one. A
client that goes away is no failure: nothing is sent, nothing is logged, and what it had asked for runs to its end.

`/_stead` is reserved on every host: readiness here, the rest for the operator's own application.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from stead.clock import Clock, SystemClock
from stead.errors import SteadError
from stead.events import Fetch, Handover
from stead.gateway.admission import Limits, admit
from stead.gateway.edge import DENIAL, EXTENSION, Disconnected, Session
from stead.gateway.parties import Parties
from stead.gateway.problems import Describe, is_unexpected, problem
from stead.gateway.sites import Directory
from stead.ids import Chance

OPERATIONS_PATH = "/_stead"
CLIENT_GONE = 499  # no status of HTTP: what is reported for a request whose client did not wait for the answer
_log = logging.getLogger("stead.gateway")


class Deliver(Protocol):
    """The one door, as far as the gateway uses it."""

    def __call__(self, target: str, event: Fetch, /) -> Awaitable[Any]:
        """The response of the service named `target`."""
        ...


OnRequest = Callable[[str, str, str, int, float, Exception | None], None]
"""Called after a request with its method, host, path, status, duration in seconds, and error."""


Serve = Callable[[Scope, Receive, Send], Awaitable[tuple[int, Exception | None]]]
"""Answers, and gives the status and what failed."""


class Endpoint(Protocol):
    """An application that answers at hosts of its own, before services do. It makes its own answers of errors."""

    def is_at(self, scope: Scope, /) -> bool: ...
    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None: ...


class Operations(msgspec.Struct, frozen=True):
    """What the operator's side gives the gateway, and what of it shows outside."""

    is_ready: Callable[[], bool] = lambda: True
    admin: ASGIApp | None = None  # serves what is below /_stead, but for readiness
    on_request: OnRequest | None = None
    describe: Describe | None = None  # in development: clients are told of failures, and of the addresses there are
    clock: Clock = SystemClock()
    chance: Chance = Chance()


class Gateway:
    """An ASGI application that serves the services of `directory`. It keeps nothing between requests."""

    def __init__(
        self,
        deliver: Deliver,
        directory: Directory,
        limits: Limits = Limits(),
        operations: Operations = Operations(),
        parties: Parties | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._deliver = deliver
        self._directory = directory
        self._limits = limits
        self._operations = operations
        self._parties = parties
        self._endpoint = endpoint
        self._clock = operations.clock
        self._on_request = operations.on_request
        self._request_prefix = operations.chance.hex(5)
        self._request_number = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            serve = self._serve
        elif scope["type"] == "websocket":
            serve = self._shake_hands
        else:
            await _live(scope, receive, send)
            return
        if self._on_request is None:
            await serve(scope, receive, send)
        else:
            await self._serve_reported(self._on_request, serve, scope, receive, send)

    async def _serve_reported(self, on_request: OnRequest, serve: Serve, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = self._clock.elapsed_s()
        status, error = 500, None
        try:
            status, error = await serve(scope, receive, send)
        except Exception as exc:
            error = exc
            raise
        finally:
            on_request(_method(scope), _host_text(scope), scope["path"], status, self._clock.elapsed_s() - began_s, error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, Exception | None]:
        """Answer a request. Returns its status and what failed; raises what failed once the response had begun."""
        path: str = scope["path"]
        if self._endpoint is not None and self._endpoint.is_at(scope):
            return await self._run(self._endpoint, scope, receive, send)
        try:
            if path.startswith(OPERATIONS_PATH) and path[len(OPERATIONS_PATH) :][:1] in {"", "/"}:
                app = self._operator_app(path)
            else:
                app, fetch = await self._answer(scope, receive)
                if isinstance(app, Handover):
                    raise HTTPException(426, "this address is for WebSockets", {"upgrade": "websocket", "connection": "upgrade"})
                scope, receive = fetch.scope, fetch.receive
        except ClientDisconnect as exc:
            return CLIENT_GONE, exc
        except Exception as exc:  # noqa: BLE001 - application code was called; every error becomes a problem
            return await self._refuse(exc, scope, send)
        if isinstance(app, Response) and type(app).__call__ is Response.__call__ and app.background is None:
            await _send_whole(app, scope, send)
            return app.status_code, None
        return await self._run(app, scope, receive, send)

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, Exception | None]:
        """Answer the handshake of a WebSocket, as `_serve` does a request. An application that accepts it runs to its end."""
        session: Session | None = scope.get("extensions", {}).get(EXTENSION)
        if session is None:
            await _refuse_socket(receive, send)
            return 403, None
        try:
            session.check()
            app, fetch = await self._answer(scope, _no_body)
            if isinstance(app, Handover):
                assert self._parties is not None
                self._parties.rooms.admit_socket(app)
                session.accept(partial(self._parties.rooms.open_socket, app), app.subprotocol)
                return 101, None
        except Disconnected as exc:
            return CLIENT_GONE, exc
        except Exception as exc:  # noqa: BLE001 - application code was called; every error becomes a problem
            return await self._refuse(exc, scope, send)
        plain = {**fetch.scope, "type": "websocket", "scheme": scope.get("scheme", "ws"), "subprotocols": scope["subprotocols"]}
        return await self._run(app, {**plain, "extensions": {DENIAL: {}}}, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Response, Fetch]:
        """What a public actor or a service answers to a request that was admitted."""
        host, fetch = admit(scope, receive, self._limits)
        actor = self._parties.find(scope) if self._parties is not None else None
        if actor is not None:
            assert self._parties is not None
            return await self._parties.rooms.visit(actor, fetch, is_handshake=scope["type"] == "websocket"), fetch
        service = self._directory.find(host)
        if service is None:
            raise self._unknown_host(scope)
        response = await self._deliver(service, fetch)
        assert isinstance(response, Response), f"{service} answered {type(response).__name__}"
        return response, fetch

    async def _run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> tuple[int, Exception | None]:
        """Send a response that runs: a stream, a file, an application."""
        outgoing = _Outgoing(send, _method(scope) == "HEAD")
        try:
            await app(scope, receive, outgoing)
        except (ClientDisconnect, Disconnected, WebSocketDisconnect) as exc:
            return outgoing.status or CLIENT_GONE, exc if outgoing.status != 101 else None
        except Exception as exc:
            if outgoing.status:
                raise
            return await self._refuse(exc, scope, send)
        if not outgoing.status:
            return await self._refuse(SteadError("the application returned without a response"), scope, send)
        return outgoing.status, None

    async def _refuse(self, error: Exception, scope: Scope, send: Send) -> tuple[int, Exception]:
        self._request_number += 1
        request_id = f"{self._request_prefix}-{self._request_number}"
        if is_unexpected(error):
            _log.error("request %s failed: %s %s", request_id, _method(scope), scope["path"], exc_info=error)
        response = problem(error, request_id, self._operations.describe)
        if response.status_code == 413 and scope["http_version"].startswith("1"):
            response.raw_headers.append((b"connection", b"close"))  # the rest of the body is on its way and nobody will read it
        await _send_whole(response, scope, send)
        return response.status_code, error

    def _operator_app(self, path: str) -> ASGIApp:
        if path in {f"{OPERATIONS_PATH}/ready", f"{OPERATIONS_PATH}/health"}:
            if not self._operations.is_ready():
                raise HTTPException(503, "not ready now; the log says why if it lasts", {"retry-after": "1"})
            return PlainTextResponse("ready\n", headers={"cache-control": "no-store"})
        if self._operations.admin is None:
            raise HTTPException(404, f"nothing is at {path}")
        return self._operations.admin

    def _unknown_host(self, scope: Scope) -> HTTPException:
        host = _host_text(scope)
        detail = f"no service answers at {host or 'a request without Host'}"
        if self._operations.describe is not None:
            port = host.rpartition(":")[2]
            suffix = f":{port}" if port.isdigit() else ""
            known = ", ".join(f"{scope.get('scheme', 'http')}://{known}{suffix}" for known in self._directory.hosts)
            detail += f"; known addresses: {known}" if known else "; no service is public"
        return HTTPException(404, detail)


class _Outgoing:
    """The server's `send`, which notes the status once the response has begun and sends no body to HEAD."""

    __slots__ = ("_is_head", "_send", "status")

    def __init__(self, send: Send, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.status = 0

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.start", f"{DENIAL}.start"}:
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # which is what ASGI makes of it
        elif self._is_head and kind == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


async def _send_whole(response: Response, scope: Scope, send: Send) -> None:
    kind = DENIAL if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": f"{kind}.body", "body": response.body if _method(scope) != "HEAD" else b""})


async def _no_body() -> Message:  # noqa: RUF029 - ASGI's `receive`
    """What a handshake has."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI's lifespan; whoever assembles the gateway starts and stops what is behind it."""
    if scope["type"] != "lifespan":
        raise ValueError(f"the gateway does not speak {scope['type']!r}")
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _refuse_socket(receive: Receive, send: Send) -> None:
    """Close before accepting, which a server answers with 403."""
    if (await receive())["type"] == "websocket.connect":
        await send({"type": "websocket.close", "code": 1008, "reason": "this server cannot hand WebSocket connections over"})


def _method(scope: Scope) -> str:
    return scope.get("method", "GET")  # type: ignore[no-any-return]


def _host_text(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
