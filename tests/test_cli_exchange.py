"""HTTP at the server's connection: answers whole, streamed and broken, by raw bytes.

They go over loopback, but where it matters how long a connection is idle: there they go over a link in memory, in virtual time.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stead.cli.http import KEEP_ALIVE_S, HttpServer
from stead.cli.listening import listen
from stead.clock import SystemClock, sleep
from stead.events import Fetch
from stead.gateway import Directory, Edge, Gateway, Site, SocketLimits
from stead.ids import Chance
from stead.runtime.env import Bindings
from stead.runtime.services import ServiceRunner
from stead.testing import Link, check
from tests.edges import handshake

LIMIT_S = 20.0
LINGER_S = 0.5
NO_PINGS = SocketLimits(ping_s=10 * KEEP_ALIVE_S, pong_s=10 * KEEP_ALIVE_S)
NOTICED_S = 0.2  # the server looks twice as often whether it is to stop
CHUNK = b"x" * 65_536
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, is_more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": is_more}


def answering(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


async def whole(receive: Receive) -> bytes:
    parts, is_more = [], True
    while is_more:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        is_more = message["more_body"]
    return b"".join(parts)


async def pause_s(seconds: float) -> None:
    """Real time, for what a real connection's timers are to be later or earlier than."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


def serve(app: ASGIApp, talk: Talk) -> Any:
    """What a client comes to that talks to a server of the application."""

    async def main() -> Any:
        ready = asyncio.Event()
        http = HttpServer(app, Edge(app), 5, ready.set)
        with listen("127.0.0.1", 0) as listener:
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                group.create_task(http.serve(sockets=[listener]))
                await ready.wait()
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                try:
                    return await talk(reader, writer)
                finally:
                    writer.close()
                    http.stop()

    return asyncio.run(main())


def asking(*requests: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, bytes]]:
    """A client that sends these, the last with `connection: close`, and takes all that comes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        *earlier, last = requests
        writer.write(b"".join(f"{one.decode()} HTTP/1.1\r\nhost: a\r\n\r\n".encode() for one in earlier))
        writer.write(last + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        return await reader.read()

    return talk


def without_date(answer: bytes) -> bytes:
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date: "))


class Served:
    """A server of the application on the seeded loop, whose clients come by links."""

    def __init__(self, app: ASGIApp, seed: int, linger_s: float = 0.0) -> None:
        self._ready = asyncio.Event()
        self._chance = Chance(seed)
        self._ports = itertools.count(50_000)
        self._tasks = asyncio.TaskGroup()
        self._writers: list[asyncio.StreamWriter] = []
        self._http = HttpServer(app, Edge(app, NO_PINGS), 5, self._ready.set, linger_s)
        self.stop = self._http.stop

    async def __aenter__(self) -> Served:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._http.serve(sockets=[]))
        await self._ready.wait()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.stop()
        for writer in self._writers:
            writer.close()
        await self._tasks.__aexit__(*error)

    def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        protocol, config = asyncio.StreamReaderProtocol(reader), self._http.config
        server = config.http_protocol_class(config=config, server_state=self._http.server_state, app_state={})  # type: ignore[call-arg]
        link = Link(protocol, server, self._chance, next(self._ports))
        self._writers.append(asyncio.StreamWriter(link.client, protocol, reader, loop))
        return reader, self._writers[-1]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes = b"/") -> bytes:
    """A request; its answer, which is five bytes long."""
    writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(5)


HELLO = (start(200, length(5)), body(b"hello"))


@pytest.mark.parametrize("linger_s", [LINGER_S, 0.0])
def test_a_connection_may_be_used_once_more_while_the_server_stops(linger_s: float) -> None:
    """Where the server lingers, what was sent before the client could know is answered, as the last; others end by themselves."""

    async def scenario(seed: int) -> None:
        async with Served(answering(*HELLO), seed, linger_s) as server:
            idle, used = server.connect(), server.connect()
            await ask(*used)
            server.stop()
            await sleep(NOTICED_S)
            if linger_s:
                assert b"\r\nconnection: close\r\n" in await ask(*used)
                assert not idle[0].at_eof()
            assert used[0].at_eof() or await used[0].read() == b""
            assert await idle[0].read() == b""
            assert asyncio.get_running_loop().time() <= NOTICED_S + linger_s

    check(scenario, 20)


def test_an_answer_of_known_length() -> None:
    """Status, headers in lower case, a date, the body, and the end of the connection announced."""
    answer = serve(answering(start(201, (b"Content-Length", b"5"), (b"x-a", b"b")), body(b"hello")), asking(b"GET /"))
    assert answer.count(b"\r\ndate: ") == 1
    expected = b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nx-a: b\r\nconnection: close\r\n\r\nhello"
    assert without_date(answer) == expected


def test_an_answer_of_unknown_length_is_chunked() -> None:
    """Each part a chunk, empty ones none, the last one ends it."""
    app = answering(start(), body(b"one", is_more=True), body(b"", is_more=True), body(b"two"))
    answer = serve(app, asking(b"GET /"))
    assert answer.endswith(b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_answers_without_a_body_keep_the_connection_in_step(method: bytes, status: int) -> None:
    """Nothing follows their heads but the next answer."""
    app = answering(start(status, length(10)), body(b"never sent" if method == b"HEAD" else b""))
    answer = serve(app, asking(method + b" /", method + b" /"))
    first, second, rest = answer.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status) and second.startswith(b"HTTP/1.1 %d " % status)
    assert rest == b"" and b"chunked" not in answer


def test_pipelined_requests_are_answered_in_order() -> None:
    """One at a time, however slow the first."""
    running = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await pause_s(0.1 if scope["path"] == "/0" else 0.0)
        await send(start(200, length(2)))
        running -= 1
        await send(body(scope["path"].encode()))

    answer = serve(app, asking(*(b"GET /%d" % number for number in range(5))))
    assert [part[:2] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_arrives_whole(is_chunked: bool) -> None:
    """In parts, larger than what is read ahead, asked for with 100 Continue only once it is wanted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received = await whole(receive)
        await send(start(200, length(len(str(len(received))))))
        await send(body(str(len(received)).encode()))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        framing = b"transfer-encoding: chunked" if is_chunked else b"content-length: %d" % (10 * len(CHUNK))
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n" + framing + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(10):
            writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK) if is_chunked else CHUNK)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if is_chunked else b"")
        return await reader.read()

    assert serve(app, talk).endswith(b"\r\n\r\n655360")


@pytest.mark.parametrize(
    "messages",
    [
        (start(200, length(5)), body(b"half")),
        (start(200, length(3)), body(b"more")),
        (start(200, length(5)), body(b"half", is_more=True)),
        (start(200, length(5)), start(200, length(5))),
    ],
)
def test_half_an_answer_never_looks_whole(messages: tuple[Message, ...]) -> None:
    """The connection ends before the length that was promised."""
    answer = serve(answering(*messages), asking(b"GET /"))
    head, _, received = answer.partition(b"\r\n\r\n")
    assert not head or (b"content-length: 5" in head and len(received) < 5)


@pytest.mark.parametrize("header", [(b"x-a", b"b\r\nset-cookie: c"), (b"x a", b"b"), (b"x\r\na", b"b"), (b"x", b"\0")])
def test_a_header_that_would_be_two_is_refused(header: tuple[bytes, bytes]) -> None:
    """With a 500 that holds nothing of it."""
    answer = serve(answering(start(200, length(0), header), body(b"")), asking(b"GET /"))
    assert answer.startswith(b"HTTP/1.1 500 ") and b"cookie" not in answer


@pytest.mark.parametrize("begins", [False, True])
def test_an_application_that_fails(begins: bool) -> None:
    """A 500 before it began to answer; after that a stream without its end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begins:
            await send(start())
            await send(body(b"half", is_more=True))
        raise ValueError("on purpose")

    answer = serve(app, asking(b"GET /"))
    assert answer.endswith(b"4\r\nhalf\r\n") if begins else answer.startswith(b"HTTP/1.1 500 ")


def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    """A client hears that a stream has begun before there is anything in it."""
    heard = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await heard.wait()
        await send(body(b"end"))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        heard.set()
        return await reader.read()

    assert b"end" in serve(app, talk)


def test_a_client_that_goes_away_is_noticed() -> None:
    """By every `receive` that waits, and sending to it does nothing."""
    gone: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await whole(receive) == b""
        gone.extend(message["type"] for message in await asyncio.gather(receive(), receive()))
        await send(start(200, length(1)))
        await send(body(b"a"))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    serve(app, talk)
    assert gone == ["http.disconnect"] * 2


def test_a_client_that_does_not_read_holds_the_stream_back() -> None:
    """What it has not read does not pile up here."""
    sent = 0
    paused = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        while sent < 1000:
            asyncio.get_running_loop().call_later(0.3, paused.set)
            await send(body(CHUNK, is_more=True))
            sent += 1
        await send(body(b""))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await paused.wait()
        held = sent
        received = 0
        while part := await reader.read(1 << 20):
            received += len(part)
        assert received > 1000 * len(CHUNK)
        return held

    assert serve(app, talk) < 500


def streaming(stream: Callable[[Request], AsyncIterator[bytes]]) -> ASGIApp:
    """A gateway before one service, which answers with a stream."""

    async def answer(target: str, event: Fetch) -> Response:
        return StreamingResponse(stream(Request(event.scope, event.receive)))

    return Gateway(answer, Directory([Site("api")]))


async def echo(request: Request) -> AsyncIterator[bytes]:
    async for part in request.stream():
        if part:
            yield part


def mounted() -> ASGIApp:
    """A gateway before an application of another framework's, which streams what it is sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(echo(Request(scope, receive)))(scope, receive, send)

    runner = ServiceRunner("web", app, Bindings(SystemClock()))
    return Gateway(lambda _, event: runner.fetch(event), Directory([Site("web")]))


@pytest.mark.parametrize("app", [streaming(echo), mounted()], ids=["service", "mounted"])
@pytest.mark.parametrize("parts", [[], [b"one"], [b"one", CHUNK, b"three"]])
def test_a_stream_may_read_the_request_it_answers(app: ASGIApp, parts: list[bytes]) -> None:
    """Each part comes back before the next one is sent, also where there is none: nobody else takes them."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        size = sum(map(len, parts))
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for part in parts:
            writer.write(part)
            left = len(part)
            while left:
                left -= int(await reader.readline(), 16)
                await reader.readuntil(b"\r\n")
            assert left == 0
        return await reader.read()

    assert serve(app, talk) == b"0\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_stream_ends_when_its_client_leaves(method: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One that goes on sending, whatever the method; one that answers GET also while it waits. It is no failure."""
    ended = asyncio.Event()

    async def stream(request: Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await (pause_s(0.001) if method == b"POST" else asyncio.Event().wait())
        finally:
            ended.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"tick")
        writer.close()
        await ended.wait()

    serve(streaming(stream), talk)
    assert caplog.records == []


def test_only_an_idle_connection_is_closed() -> None:
    """Not one whose answer takes longer than a connection may be idle."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sleep(2 * KEEP_ALIVE_S if scope["path"] == "/slow" else 0.0)
        for message in HELLO:
            await send(message)

    async def scenario(seed: int) -> None:
        async with Served(app, seed) as server:
            reader, writer = server.connect()
            for path in (b"/", b"/slow", b"/"):
                assert (await ask(reader, writer, path)).endswith(b"hello")
                await sleep(KEEP_ALIVE_S / 2)
            began_s = asyncio.get_running_loop().time()
            assert await reader.read() == b""
            assert asyncio.get_running_loop().time() - began_s == pytest.approx(KEEP_ALIVE_S / 2)

    check(scenario, 20)


def test_a_socket_outlives_the_idle_time_of_its_connection() -> None:
    """Once a connection that has served a request became a WebSocket, silence does not end it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for message in HELLO:
                await send(message)
            return
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await sleep(1.1 * KEEP_ALIVE_S)
        await send({"type": "websocket.send", "text": "still here"})

    async def scenario(seed: int) -> None:
        async with Served(app, seed) as server:
            reader, writer = server.connect()
            await ask(reader, writer)
            writer.write(handshake())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(12) == b"\x81\x0astill here"

    check(scenario, 20)
