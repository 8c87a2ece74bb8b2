"""A raw client of the edge: what it sends and gets are bytes, so that it can break every rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from stead.clock import sleep
from stead.gateway import Edge, SocketLimits, Wire
from stead.ids import Chance
from stead.testing.link import Link
from stead.testing.server import SocketServer

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
HEADERS = (
    (b"Host", b"localhost"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
)
Seen = tuple[str, Any]


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.messages: list[str | bytes] = []
        self.end: tuple[int, str, Exception | None] | None = None
        self.on_message: Callable[[str | bytes], None] = lambda data: None

    def message(self, data: str | bytes) -> None:
        assert self.end is None, "a message after the end"
        self.messages.append(data)
        self.on_message(data)

    def closed(self, code: int, reason: str, error: Exception | None) -> None:
        assert self.end is None, "a second end"
        self.end = code, reason, error


class Doorkeeper:
    """An application that takes every connection over and keeps its receivers."""

    def __init__(self, subprotocol: str | None = None, wait_s: float = 0.0) -> None:
        self.opened: list[Recorder] = []
        self._subprotocol = subprotocol
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await sleep(self._wait_s)
        scope["extensions"]["stead.socket"].accept(self._open, self._subprotocol)

    def _open(self, wire: Wire) -> Recorder:
        self.opened.append(Recorder(wire))
        return self.opened[-1]


class RawClient(asyncio.Protocol):
    """What a client sends and gets, byte by byte."""

    transport: asyncio.Transport
    link: Link

    def __init__(self) -> None:
        self.data = bytearray()
        self.has_eof = self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.has_eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def send(self, *frames: bytes) -> None:
        self.transport.write(b"".join(frames))

    @property
    def head(self) -> bytes:
        """The head of the answer to the handshake, once it is there."""
        head, end, _ = bytes(self.data).partition(b"\r\n\r\n")
        return head if end else b""

    def frames(self) -> list[Seen]:
        """What came after the handshake, as the library of websockets reads it."""
        reader = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
        reader.receive_data(bytes(self.data).partition(b"\r\n\r\n")[2])
        seen: list[Seen] = []
        for event in reader.events_received():
            assert isinstance(event, WireFrame)
            if event.opcode is Opcode.CLOSE:
                assert reader.close_rcvd is not None
                seen.append(("close", (int(reader.close_rcvd.code), reader.close_rcvd.reason)))
            else:
                data = bytes(event.data)
                seen.append((event.opcode.name.lower(), data.decode() if event.opcode is Opcode.TEXT else data))
        assert reader.parser_exc is None, reader.parser_exc
        return seen


def frame(opcode: Opcode, data: bytes | str = b"", fin: bool = True) -> bytes:
    """A client's frame."""
    payload = data.encode() if isinstance(data, str) else data
    return WireFrame(opcode, payload, fin).serialize(mask=True)


def text(data: str) -> bytes:
    return frame(Opcode.TEXT, data)


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason)


def handshake(path: bytes = b"/", headers: Iterable[tuple[bytes, bytes]] = HEADERS, method: bytes = b"GET") -> bytes:
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, lines)


class World:
    """An edge and its network, on the running loop."""

    def __init__(self, app: ASGIApp, limits: SocketLimits = SocketLimits(), seed: int = 0) -> None:
        self.edge = Edge(app, limits)
        self._chance = Chance(seed)
        self._port = 50_000

    def dial(self, request: bytes) -> RawClient:
        """A client that has sent `request`."""
        client = RawClient()
        self._port += 1
        client.link = Link(client, SocketServer(self.edge), self._chance, self._port)
        client.send(request)
        return client

    async def connect(self, *headers: tuple[bytes, bytes]) -> RawClient:
        """A client whose handshake was answered."""
        client = self.dial(handshake(headers=(*HEADERS, *headers)))
        await until(lambda: bool(client.head))
        assert client.head.startswith(b"HTTP/1.1 101 "), client.head
        return client


async def until(condition: Callable[[], bool], limit_s: float = 600.0, step_s: float = 0.01) -> None:
    """Let virtual time pass until the condition holds."""
    passed_s = 0.0
    while not condition():
        assert passed_s < limit_s, "this never came to be"
        await sleep(step_s)
        passed_s += step_s
