"""One request and its answer on a connection of the server: what ASGI's `receive` and `send` do.

It stands where uvicorn has its `RequestResponseCycle`, and costs less: an answer of known length leaves in one write, head and body
together, and nothing that only some requests need is made for all. The head of a stream leaves at once. What breaks HTTP (a header
with a line break, a body that is not as long as it said) ends the connection, so that half an answer never looks like a whole one.
When the client is gone, `send` raises for whoever has more to send, and ignores a last message: then there is nothing left to end.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from stead.gateway import Disconnected

BODILESS = frozenset({204, 304})  # statuses
_is_no_name = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]").search
_is_no_value = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_FAILED = (
    {
        "type": "http.response.start",
        "status": 500,
        "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21"), (b"connection", b"close")],
    },
    {"type": "http.response.body", "body": b"Internal Server Error"},
)
_log = logging.getLogger("stead.server")


class Exchange:
    """The connection adds to `body` and sets `more_body` and `disconnected`, and calls `message_event.set()` after that.

    `on_complete` is called when the answer is whole, `keep_alive` says whether the connection outlives it.
    """

    __slots__ = (
        "_default_headers",
        "_flow",
        "_has_begun",
        "_has_news",
        "_head",
        "_is_chunked",
        "_is_continue_due",
        "_left_bytes",
        "_news",
        "_on_complete",
        "_scope",
        "_transport",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "task",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        default_headers: list[tuple[bytes, bytes]],
        on_complete: Callable[[], None],
    ) -> None:
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self.task: asyncio.Task[None] | None = None
        self._scope = scope
        self._transport = transport
        self._flow = flow
        self._default_headers = default_headers
        self._on_complete = on_complete
        self._is_continue_due = False
        self._has_news = False
        self._news: asyncio.Event | None = None  # made by who waits
        self._has_begun = False
        self._head = b""  # that waits for its body
        self._is_chunked = False
        self._left_bytes = 0  # of the body that the head promised

    @property
    def message_event(self) -> Exchange:
        """What uvicorn's connection sets when something has come."""
        return self

    def set(self) -> None:
        self._has_news = True
        if self._news is not None:
            self._news.set()

    def expect_continue(self) -> None:
        """The client sends its body once it is asked to."""
        self._is_continue_due = True

    async def run(self, app: ASGIApp, on_end: Callable[[Exchange], None]) -> None:
        """Have the request answered. An application that fails before it answers gives a 500, later a closed connection."""
        try:
            await app(self._scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                raise RuntimeError("the application returned without a whole response")
        except Disconnected as exc:
            _log.debug("a client left: %s", exc)
        except Exception as exc:  # noqa: BLE001 - an application was called, and the server goes on
            _log.error("a request failed: %s", exc, exc_info=exc)
            if not self._has_begun:
                for message in _FAILED:
                    await self.send(message)
        finally:
            if not self.response_complete:
                self._transport.close()
            on_end(self)

    async def receive(self) -> Message:
        if self._is_continue_due and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._is_continue_due = False
        while not (self._has_news or self.disconnected or self.response_complete):
            self._flow.resume_reading()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self._has_news = False
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            if message.get("more_body"):
                raise Disconnected("the client left before the answer was whole")
            return
        expected = "http.response.body" if self._has_begun else "http.response.start"
        if message["type"] != expected or self.response_complete:
            raise RuntimeError(f"{message['type']} does not follow what was sent; {expected} does, until the response is whole")
        if self._has_begun:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in self._default_headers:
            parts += (name, b": ", value, b"\r\n")
        is_framed = is_closing = False
        for name, value in headers:
            if _is_no_name(name) or _is_no_value(value):
                raise RuntimeError(f"the header {name!r} holds what no header may")
            known = name.lower()
            if known == b"content-length" and not is_framed:
                self._left_bytes, is_framed = int(value), True
            elif known == b"transfer-encoding" and value.lower() == b"chunked":
                self._left_bytes, self._is_chunked, is_framed = 0, True, True
            elif known == b"connection":
                is_closing = b"close" in value.lower()
            parts += (known, b": ", value, b"\r\n")
        if is_closing:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
        if status in BODILESS:
            self._left_bytes = 0
        elif not is_framed and self._scope["method"] != "HEAD":
            self._is_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        self._has_begun, self._is_continue_due = True, False
        if self._is_chunked:
            self._transport.write(b"".join(parts))
        else:
            self._head = b"".join(parts)

    def _send_body(self, body: bytes, is_more: bool) -> None:
        if self._scope["method"] == "HEAD":
            self._left_bytes, body = 0, b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if is_more else b"0\r\n\r\n")
        else:
            self._left_bytes -= len(body)
            if self._left_bytes < 0 or (self._left_bytes and not is_more):
                raise RuntimeError("the body is not as long as its Content-Length says")
        data, self._head = self._head + body, b""
        if data:
            self._transport.write(data)
        if not is_more:
            self.response_complete = True
            self.set()
            if not self.keep_alive:
                self._transport.close()
            self._on_complete()
