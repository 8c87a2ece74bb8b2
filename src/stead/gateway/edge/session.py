"""The ASGI side of one WebSocket: what the application is called with.

An application that knows the extension `EXTENSION` takes the connection over with `accept`, returns, and nothing of this is left.
Any other one gets what ASGI says: `receive` and `send`, for as long as it runs, with the client held back while it does not
receive and the application while the client does not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import Message, Scope

from stead.errors import Invalid
from stead.events import Frame
from stead.gateway.edge.connection import OK, RESTARTING, Connection, Receiver, Wire
from stead.gateway.edge.frames import LOST, is_sendable_code
from stead.gateway.edge.handshake import Handshake, Headers, check_handshake, encode_head, encode_switch

EXTENSION = "stead.socket"
MESSAGES_MAX = 16  # that wait for `receive`; the client waits for the rest
LONG_MESSAGE_CHARS = 64 * 1024  # a message that waits alone, or the other bound would be no bound of memory
DENIAL = "websocket.http.response"  # ASGI's extension for answering a handshake with a response


class Disconnected(OSError):
    """The client is gone."""


class Session:
    """One handshake, and for an application that does not take the connection over its messages."""

    def __init__(self, connection: Connection, scope: Scope, method: str) -> None:
        self._connection = connection
        self._handshake: Handshake | HTTPException
        try:
            self._handshake = check_handshake(scope, method)
        except HTTPException as exc:
            self._handshake = exc
        offered = self._handshake.subprotocols if isinstance(self._handshake, Handshake) else []
        self.scope: Scope = {**scope, "subprotocols": offered, "extensions": {DENIAL: {}, EXTENSION: self}}
        self._is_told = self._is_answered = self._is_responding = False  # connect received; accepted or refused; refusal begun
        self._wire: Wire | None = None  # of a connection that was not taken over
        self._messages: deque[str | bytes] = deque()
        self._end: tuple[int, str] | None = None
        self._news = asyncio.Event()

    # -- the extension -------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `HTTPException` for a request that no WebSocket can be opened with."""
        if isinstance(self._handshake, HTTPException):
            raise self._handshake

    def accept(self, receiver: Callable[[Wire], Receiver], subprotocol: str | None = None) -> None:
        """Let the client in, and give the connection to what `receiver` makes of its wire. Raises `Disconnected` if it left.

        Without a subprotocol the first one that the client offers is answered.
        """
        self.check()
        assert isinstance(self._handshake, Handshake)
        if subprotocol is None and self._handshake.subprotocols:
            subprotocol = self._handshake.subprotocols[0]
        self._open(encode_switch(self._handshake, subprotocol), receiver)

    def _open(self, switch: bytes, receiver: Callable[[Wire], Receiver]) -> None:
        if self._connection.is_lost:
            raise Disconnected()
        self._is_answered = True
        self._connection.open(switch, receiver)

    # -- ASGI ----------------------------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        while not self._messages and self._end is None:
            self._news.clear()
            await self._news.wait()
        if self._messages:
            data = self._messages.popleft()
            if not self._messages and self._wire is not None:
                self._wire.resume()
            return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
        code, reason = self._end or (LOST, "")
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._wire is not None:
            await self._send_open(kind, message)
        elif self._connection.is_lost:
            raise Disconnected()
        elif kind == f"{DENIAL}.start" and not self._is_answered:
            self._begin_response(message["status"], message.get("headers", ()))
        elif kind == f"{DENIAL}.body" and self._is_responding:
            await self._connection.wait_writable()
            self._connection.respond(message.get("body", b""), is_last=not message.get("more_body", False))
        elif kind == "websocket.accept" and not self._is_answered:
            self.check()
            assert isinstance(self._handshake, Handshake)
            switch = encode_switch(self._handshake, message.get("subprotocol"), message.get("headers", ()))
            self._open(switch, self._take)
        elif kind == "websocket.close" and not self._is_answered:
            self.refuse(403)
        else:
            raise RuntimeError(f"{kind} cannot be sent now")

    async def _send_open(self, kind: str, message: Message) -> None:
        assert self._wire is not None
        if self._end is not None:
            raise Disconnected()
        if kind == "websocket.send":
            data = message.get("bytes")
            self._wire.send(Frame(message["text"] if data is None else data))
            await self._connection.wait_writable()
        elif kind == "websocket.close":
            code = message.get("code") or OK
            if not is_sendable_code(code):
                raise Invalid(f"a connection cannot be closed with code {code}; applications choose from 1000 or 3000 to 4999")
            self._wire.close(code, message.get("reason") or "")
        else:
            raise RuntimeError(f"{kind} cannot be sent now")

    # -- what the edge does --------------------------------------------------------------------------------------------------------

    def refuse(self, status: int) -> None:
        """Answer with a bare status, if nothing was answered yet."""
        if not self._is_answered:
            self._begin_response(status, [(b"content-length", b"0")])
            self._connection.respond(b"", is_last=True)

    def finish(self, code: int) -> None:
        """The application has ended: what it left unanswered is refused, what it left open is closed with `code`."""
        if self._is_responding:
            if not self._connection.is_lost:
                self._connection.abort()  # half an answer must not look like a whole one
        elif not self._is_answered:
            self.refuse(503 if code == RESTARTING else 500)
        elif self._wire is not None or code != OK:
            self._connection.close(code, "")

    def _begin_response(self, status: int, headers: Headers) -> None:
        kept = [(name, value) for name, value in headers if name.lower() not in {b"connection", b"transfer-encoding"}]
        head = encode_head(status, [*kept, (b"connection", b"close")])  # so that the end is the end of the body, however it came
        self._is_answered = self._is_responding = True
        self._connection.respond(head, is_last=False)

    # -- a connection that was not taken over --------------------------------------------------------------------------------------

    def _take(self, wire: Wire) -> Receiver:
        self._wire = wire
        return self

    def message(self, data: str | bytes) -> None:
        self._messages.append(data)
        self._news.set()
        if self._wire is not None and (len(self._messages) >= MESSAGES_MAX or len(data) > LONG_MESSAGE_CHARS):
            self._wire.pause()

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        self._end = code, reason
        self._news.set()
