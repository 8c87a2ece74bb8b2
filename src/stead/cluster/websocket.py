"""The network between machines: WebSockets, over TCP or mutual TLS.

`websockets` reads and writes frames and the opening handshake, without I/O; here is the transport. So a wire is callbacks: no task,
no queue, no copy of a message that its receiver does not ask for. The server's port serves channels and nothing else.

A side that closes shuts its own direction and throws away what still comes for CLOSE_S: closing a socket with unread input would
reset it, and the other side would not read why. TLS has no such half; there the reason may get lost.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import BINARY, CLOSE, PING, PONG, Frame
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from stead.cluster.keys import Keys, check_exposure, split_address
from stead.cluster.network import FULL_BYTES, MESSAGE_BYTES_MAX, ROOM_BYTES, Listening, Receiver, Wire
from stead.cluster.tls import SecureDoor, TlsFiles, client_tls, server_tls

CLOSE_S = 3.0  # for the other side to read what was sent before the end
CLOSE_CODE = 4000  # of WebSockets that this closes: the reason says why
BACKLOG = 128  # connections that wait to be accepted
FOREIGN = "it speaks no language of channels"
REASON_BYTES_MAX = 120  # the format's own bound is 123
_SPENT = ServerProtocol()  # of wires that are over: what theirs had read is free, however long the socket stays
_log = logging.getLogger("stead.cluster.websocket")
_log.setLevel(logging.WARNING)  # websockets tells of every connection


class WebSocketNetwork:
    """With `tls`, every wire is under mutual TLS. `keys` are asked only whether there are any: the handshake uses them."""

    def __init__(self, keys: Keys, tls: TlsFiles | None = None) -> None:
        self._keys = keys
        self._server_tls = server_tls(tls) if tls else None
        self._client_tls = client_tls(tls) if tls else None

    async def dial(self, address: str, receiver: Callable[[Wire], Receiver]) -> None:
        """Connect to `address`. Raises `OSError`, for what is no WebSocket too."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        protocol = ClientProtocol(parse_uri(f"ws://{address}/"), max_size=MESSAGE_BYTES_MAX, logger=_log)
        _, wire = await loop.create_connection(lambda: WebSocketWire(protocol, receiver, opened), host, port, ssl=self._client_tls)
        try:
            await opened
        except asyncio.CancelledError:
            wire.abort()
            raise

    async def listen(self, address: str, receiver: Callable[[Wire], Receiver]) -> Listening:
        """Listen at `address`. Raises `OSError`, and `Invalid` where anybody could come in."""
        check_exposure(address, self._keys, self._server_tls is not None)
        host, port = split_address(address)

        def accept() -> WebSocketWire:
            return WebSocketWire(ServerProtocol(max_size=MESSAGE_BYTES_MAX, logger=_log), receiver)

        loop = asyncio.get_running_loop()
        family, _, _, _, place = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        listening = socket.create_server(place[:2], family=family, backlog=BACKLOG)
        listening.setblocking(False)
        chosen = f"{address.rpartition(':')[0]}:{listening.getsockname()[1]}"
        if self._server_tls is not None:
            return WebSocketListening(chosen, SecureDoor(listening, self._server_tls, accept))
        return WebSocketListening(chosen, await loop.create_server(accept, sock=listening))


class WebSocketListening:
    """A listening socket."""

    def __init__(self, address: str, door: SecureDoor | asyncio.Server) -> None:
        self.address = address
        self._door = door

    async def close(self) -> None:
        """Close it."""
        if isinstance(self._door, SecureDoor):
            await self._door.close()
        else:
            self._door.close()


class WebSocketWire(asyncio.Protocol):
    """One end of a WebSocket. A dialled one has its receiver at once, for whom the opening handshake counts as well; one that dials
    has it when that is over, and resolves `opened`."""

    receiver: Receiver

    def __init__(
        self,
        protocol: ServerProtocol | ClientProtocol,
        receiver: Callable[[Wire], Receiver],
        opened: asyncio.Future[None] | None = None,
    ) -> None:
        self.address = "?"
        self.is_full = False
        self._protocol = protocol
        self._make_receiver = receiver
        self._opened = opened
        self._transport: asyncio.Transport
        self._is_over = False  # the receiver hears nothing more
        self._timer: asyncio.TimerHandle | None = None

    # -- the wire ------------------------------------------------------------------------------------------------------------------

    def write(self, message: bytes) -> None:
        if not self._is_over and self._protocol.state is OPEN:  # it may have read the end already
            self._protocol.send_binary(message)
            self._flush()

    def close(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            if self._protocol.state is OPEN:
                self._protocol.send_close(CLOSE_CODE, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
            self._hang_up()

    def abort(self) -> None:
        self._is_over = True
        self._transport.abort()

    # -- the transport -------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's
        transport.set_write_buffer_limits(FULL_BYTES, ROOM_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if peer else "?"
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self._flush()
        else:
            self.receiver = self._make_receiver(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            self._take(event)
            if self._is_over:
                return
        if (problem := protocol.handshake_exc or protocol.parser_exc) is not None:
            self._end(f"it speaks no WebSocket: {problem}")
        else:
            self._flush()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if not self._is_over:
            self.receiver.room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over:
            self._end(f"the connection was lost ({exc})" if exc else "the connection was closed without a word")

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode is BINARY and event.fin:
                self.receiver.message(bytes(event.data))
            elif event.opcode is CLOSE:
                received = self._protocol.close_rcvd
                self._end(received.reason or f"closed with {received.code}" if received else "closed")
            elif event.opcode not in {PING, PONG}:
                self._protocol.send_close(CLOSE_CODE, FOREIGN)
                self._end(FOREIGN)
        elif isinstance(event, Request):
            assert isinstance(self._protocol, ServerProtocol)
            self._protocol.send_response(self._protocol.accept(event))
            self._flush()
        elif isinstance(event, Response) and self._protocol.handshake_exc is None:
            assert self._opened is not None
            self.receiver = self._make_receiver(self)
            if not self._opened.done():
                self._opened.set_result(None)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                # Where the connection was reset a moment ago uvloop raises and asyncio does not; `connection_lost` follows in both.
                with suppress(RuntimeError):
                    self._transport.write(data)

    def _end(self, reason: str) -> None:
        """The other side ended it, or broke a rule."""
        self._is_over = True
        self._hang_up()
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectionError(reason))
        else:
            self.receiver.closed(reason)

    def _hang_up(self) -> None:
        if self._transport.is_closing():
            return
        self._flush()
        self._protocol = _SPENT
        if self._transport.can_write_eof():
            with suppress(RuntimeError):
                self._transport.write_eof()
            self._timer = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)
        else:
            self._transport.close()
