"""`RoomSocket`: a socket to a room that comes back by itself.

One task looks after the connection: it connects, sends what had waited, hands messages to the inbox, and after the end waits and
begins again. So there is one connection at a time, messages come in the order of their connections, and what is sent leaves in the
order of the calls: it goes behind what waits, and past that only while a connection is open and nothing waits.

What is sent arrives once or not at all. A message is not sent again after it was given to a connection, even one that breaks a
moment later; a program that must know asks its room for an answer.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from stead.client.address import RoomAddress
from stead.client.connection import Disconnected, HandshakeRefused
from stead.client.events import Closed, Failed, Opened
from stead.client.inbox import Inbox
from stead.client.settings import Settings
from stead.clock import sleep
from stead.errors import Overloaded

ID_BYTES = 16
NORMAL, LOST = 1000, 1006
_log = logging.getLogger("stead.client")

Parameters = Mapping[str, str | None]
Query = Parameters | Callable[[], Parameters | Awaitable[Parameters]]
"""More parameters of the address, or what gives them for each connection: a token that expires, say."""


class RoomSocket:
    """`async with RoomSocket("localhost:8700", room="lobby", party="chat") as socket:`, then `send` and `async for`.

    `id` is the connection's id at the room; without one it is made here. It stays the same over reconnects.
    """

    def __init__(
        self,
        host: str,
        *,
        room: str,
        party: str = "main",
        path: str = "",
        query: Query | None = None,
        id: str | None = None,
        settings: Settings = Settings(),
    ) -> None:
        self.address = RoomAddress(host, room, party, path, settings.prefix)
        self.id = id or settings.chance.hex(ID_BYTES)
        self.resume: dict[str, str] = {}
        """Parameters that the next connection adds to its address, to go on where this one was."""
        self._query = query
        self._settings = settings
        self._backoff = settings.backoff.drawn(settings.chance)
        self._inbox = Inbox(settings.unread_messages_max)
        self._unsent: deque[str | bytes] = deque()
        self._unsent_bytes = 0
        self._connection: ClientConnection | None = None  # while it is open and nothing waits
        self._end: Exception | None = None  # why it does not come back
        self._news = asyncio.Event()  # it has opened or ended
        self._opens = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to connect; nobody has to wait for that."""
        assert self._task is None, "a socket is entered once"
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # -- messages ------------------------------------------------------------------------------------------------------------------

    async def send(self, message: str | bytes | dict[str, Any] | list[Any]) -> None:
        """Send text, bytes, or a dict or list as JSON text; without a connection keep it until there is one.

        Waits while the server takes no more. Raises `Overloaded` if too much waits already, and `Disconnected` once the socket is
        over, or if the connection breaks meanwhile.
        """
        data = msgspec.json.encode(message).decode() if isinstance(message, dict | list) else message
        if self._end is not None:
            raise self._end
        if self._connection is None or self._connection.state is not State.OPEN:
            self._keep(data)
        else:
            await _send(self._connection, data)

    async def receive(self) -> str | bytes:
        """The next message, from this connection or one after it.

        Raises `Disconnected` once there are none any more, or what ended the tries to connect: a `HandshakeRefused` for instance.
        """
        return await self._inbox.take()

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages, until the socket is closed or must not come back. Raises `HandshakeRefused`."""
        while True:
            try:
                message = await self.receive()
            except Disconnected:
                return
            yield message

    # -- the connection ------------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now, as far as this side knows."""
        return self._connection is not None and self._connection.state is State.OPEN

    @property
    def unsent(self) -> int:
        """Messages that wait for a connection."""
        return len(self._unsent)

    async def wait_open(self) -> None:
        """Return once there is a connection and all that waited was sent. Raises as `receive` once there can be none."""
        while not self.is_open:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End it for good, with the closing handshake if there is a connection. What waits for one is dropped."""
        if self._task is None:
            return
        if self._end is None:
            self._finish(Disconnected(code, reason))
            if self._connection is not None:
                await self._connection.close(code, reason)
                self._settings.listener(Closed(code, reason, None))
        self._task.cancel()
        await asyncio.wait([self._task])

    # -- the task ------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            self._finish(await self._keep_connected())
        except Exception as exc:  # noqa: BLE001 - the program's own query, listener and predicates were called: it gets their error
            self._finish(exc)

    async def _keep_connected(self) -> Exception:
        """Connect again and again. Returns why not once more."""
        loop, settings, failures = asyncio.get_running_loop(), self._settings, 0
        while True:
            failures += 1
            error: Exception
            try:
                connection = await self._connect()
            except (OSError, HandshakeRefused) as exc:
                error = exc
                goes_on = not isinstance(exc, HandshakeRefused) or settings.retries(exc)
                wait_s = self._backoff.wait_s(failures) if goes_on else None
                settings.listener(Failed(exc, wait_s))
            else:
                opened_s = loop.time()
                error = ended = await self._serve(connection)
                if loop.time() - opened_s >= self._backoff.stable_s:
                    failures = 1
                if self._end is not None:  # close() tells of it
                    return ended
                wait_s = self._backoff.wait_s(failures) if settings.reconnects(ended.code, ended.reason) else None
                settings.listener(Closed(ended.code, ended.reason, wait_s))
            if wait_s is None:
                return error
            _log.info("%s: %s; connecting again in %.1f s", self.address.room, error, wait_s)
            await sleep(wait_s)

    async def _connect(self) -> ClientConnection:
        query = self._query() if callable(self._query) else self._query or {}
        if inspect.isawaitable(query):
            query = await query
        url = self.address.url({"_pk": self.id, **query, **self.resume})
        async with asyncio.timeout(self._settings.connect_s):
            return await self._settings.connector(url, self._settings.headers, self._settings.subprotocols)

    async def _serve(self, connection: ClientConnection) -> Disconnected:
        """One connection, to its end."""
        try:
            await self._flush(connection)
            self._connection = connection
            if self.is_open:
                self._news.set()
                self._settings.listener(Opened(self._opens))
                self._opens += 1
            while True:
                await self._inbox.put(await connection.recv())
        except ConnectionClosed:
            return _disconnected(connection)
        finally:
            self._connection = None
            connection.transport.abort()

    async def _flush(self, connection: ClientConnection) -> None:
        while self._unsent and connection.state is State.OPEN:
            data = self._unsent.popleft()
            self._unsent_bytes -= _size_bytes(data)
            await connection.send(data)

    def _keep(self, data: str | bytes) -> None:
        messages, size_bytes = len(self._unsent), self._unsent_bytes + _size_bytes(data)
        if messages >= self._settings.unsent_messages_max or size_bytes > self._settings.unsent_bytes_max:
            waiting = f"{messages} messages of {self._unsent_bytes:,} bytes"
            raise Overloaded(f"{waiting} wait for a connection already", self._backoff.most_s)
        self._unsent.append(data)
        self._unsent_bytes = size_bytes

    def _finish(self, error: Exception) -> None:
        if self._end is None:
            self._end = error
            self._news.set()
            self._inbox.end(error)


async def _send(connection: ClientConnection, data: str | bytes) -> None:
    try:
        await connection.send(data)
    except ConnectionClosed as exc:
        raise _disconnected(connection) from exc


def _size_bytes(data: str | bytes) -> int:
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def _disconnected(connection: ClientConnection) -> Disconnected:
    return Disconnected(connection.close_code or LOST, connection.close_reason or "")
