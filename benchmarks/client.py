"""An own HTTP client, for what wrk cannot do: each of many paths exactly once, with the answers kept.

It speaks as much HTTP/1.1 as the contenders do: 200 with a Content-Length, one request at a time on each connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

from benchmarks.load import LoadFailed

EXCHANGE_TIMEOUT_S = 600.0
_BLANK_LINE = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True)
class Exchange:
    """The answers, in the order of the paths, and how long each and all of them took."""

    bodies: list[bytes]
    latencies_ms: list[float]
    seconds: float


def exchange(port: int, method: str, paths: Sequence[str], connections: int = 64) -> Exchange:
    """Ask for every path once. Raises `LoadFailed` at the first answer that is not a 200."""
    return uvloop.run(_exchange(port, method, paths, connections))


async def _exchange(port: int, method: str, paths: Sequence[str], connections: int) -> Exchange:
    requests = [f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() for path in paths]
    queue = iter(enumerate(requests))
    loop = asyncio.get_running_loop()
    bodies, latencies_ms = [b""] * len(paths), [0.0] * len(paths)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
            opened = []
            for _ in range(min(connections, len(paths))):
                make = partial(Connection, queue, bodies, latencies_ms, loop.create_future())
                opened.append((await loop.create_connection(make, "127.0.0.1", port))[1])
            await asyncio.gather(*(connection.done for connection in opened))
    except (OSError, TimeoutError) as exc:
        raise LoadFailed(f"the server did not answer {method} {paths[0]} and {len(paths) - 1} more: {exc!r}") from exc
    return Exchange(bodies, latencies_ms, time.perf_counter() - started)


class Connection(asyncio.Protocol):
    """Takes requests from the queue that all connections share, until it is empty."""

    def __init__(
        self, queue: Iterator[tuple[int, bytes]], bodies: list[bytes], latencies_ms: list[float], done: asyncio.Future[None]
    ) -> None:
        self.done = done
        self._queue = queue
        self._bodies = bodies
        self._latencies_ms = latencies_ms
        self._received = b""
        self._index = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            body = parse_answer(self._received)
        except LoadFailed as exc:
            self._end(exc)
            return
        if body is not None:
            self._bodies[self._index] = body
            self._latencies_ms[self._index] = (time.perf_counter() - self._sent) * 1000
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(LoadFailed(f"the server closed a connection: {exc}"))

    def _ask(self) -> None:
        item = next(self._queue, None)
        if item is None:
            self._end(None)
            return
        self._index, request = item
        self._received = b""
        self._sent = time.perf_counter()
        self._transport.write(request)

    def _end(self, failure: LoadFailed | None) -> None:
        if not self.done.done():
            if failure is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(failure)
            self._transport.close()


def parse_answer(received: bytes) -> bytes | None:
    """The body, once it is whole, else None. Raises `LoadFailed` for what is not a 200 with a length."""
    end = received.find(_BLANK_LINE)
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(_LENGTH)
    if not head.startswith(b"http/1.1 200") or at < 0:
        raise LoadFailed(f"an answer was not a 200 with a length: {received[:200].decode(errors='replace')}")
    length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
    body = received[end + len(_BLANK_LINE) :]
    return body if len(body) >= length else None
