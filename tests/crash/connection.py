"""Clients of the server that will be killed, and waiting that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stead.clock import sleep

ANSWER_S_MAX = 60.0  # a turn is cut off after 30 s, so whatever became of a request is answered by then
POLL_S = 0.05


class NeverCame(Exception):
    """Something did not happen in many times the time that it takes; the message names it."""


@asynccontextmanager
async def in_time(what: str, limit_s: float) -> AsyncIterator[None]:
    """Raises `NeverCame` when the block takes longer."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as exc:
        raise NeverCame(f"{what} did not come in {limit_s:g} s") from exc


async def patiently(look: Callable[[], Awaitable[list[str]]], limit_s: float) -> list[str]:
    """Look until nothing is wrong, and say what still is when the time is over."""
    deadline_s = asyncio.get_running_loop().time() + limit_s
    while (faults := await look()) and asyncio.get_running_loop().time() < deadline_s:
        await sleep(POLL_S)
    return faults


class ServerGone(Exception):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class Answer:
    """What a request was answered with. `retry_after_s` is 0 where the server does not say."""

    status: int
    value: Any
    retry_after_s: float = 0.0


class Connection:
    """One client's HTTP/1.1 connection: one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_last = False  # the server has said that it hangs up

    async def ask(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        """The status and the JSON of the answer. Raises `ServerGone`: the request may have happened then."""
        answer = await self.exchange(method, path, body, key)
        return answer.status, answer.value

    async def exchange(self, method: str, path: str, body: object = None, key: str = "", limit_s: float = ANSWER_S_MAX) -> Answer:
        """The whole answer. Raises `ServerGone`, and `NeverCame` where there is none in time."""
        content = b"" if body is None else json.dumps(body).encode()
        key_line = f"idempotency-key: {key}\r\n" if key else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n{key_line}\r\n"
        try:
            async with in_time(f"the answer to {method} {path}", limit_s):
                self._writer.write(head.encode() + content)
                answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
                received = await self._reader.readexactly(int(_header(answer, b"content-length")))
        except (OSError, EOFError) as exc:
            raise ServerGone from exc
        self._is_last = b"\r\nconnection: close\r\n" in answer
        return Answer(int(answer[9:12]), json.loads(received), float(_header(answer, b"retry-after")))

    @property
    def is_over(self) -> bool:
        """Whether the server has hung up, or will: nothing more is to be sent."""
        return self._is_last or self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.close()


def _header(head: bytes, name: bytes) -> bytes:
    return head.partition(name + b":")[2].partition(b"\r\n")[0] or b"0"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection to the server at this port, closed at the end. Raises `ServerGone` where there is none."""
    try:
        async with in_time(f"a connection to port {port}", ANSWER_S_MAX):
            streams = await asyncio.open_connection("127.0.0.1", port)
    except OSError as exc:
        raise ServerGone from exc
    connection = Connection(*streams)
    try:
        yield connection
    finally:
        connection.close()
