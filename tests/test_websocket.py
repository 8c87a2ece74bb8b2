"""The edge: what becomes of a connection, whoever ends it and however slowly it reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from websockets.frames import Opcode

from stead.clock import sleep
from stead.events import Frame
from stead.gateway import SocketLimits
from stead.gateway.edge import ConnectionFailed, Disconnected
from stead.gateway.edge.connection import CLOSE_S
from stead.gateway.edge.frames import Violation
from stead.testing import check, run
from tests.edges import ACCEPT, HEADERS, Doorkeeper, RawClient, Recorder, World, close, frame, handshake, text, until

Session = Callable[[Scope, Receive, Send], Awaitable[None]]


def on_seeds(scenario: Callable[[int], Coroutine[Any, Any, None]], seeds: int = 50) -> None:
    check(scenario, seeds)


async def opened(seed: int = 0, limits: SocketLimits = SocketLimits()) -> tuple[World, RawClient, Recorder]:
    keeper = Doorkeeper()
    world = World(keeper, limits, seed)
    client = await world.connect()
    return world, client, keeper.opened[0]


# -- the handshake -----------------------------------------------------------------------------------------------------------------


def test_a_handshake_is_answered_with_its_accept_key_and_the_first_subprotocol() -> None:
    async def scenario() -> None:
        client = await World(Doorkeeper()).connect((b"Sec-WebSocket-Protocol", b"chat, superchat"))
        lines = client.head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
        assert {b"upgrade: websocket", b"connection: Upgrade", b"sec-websocket-accept: " + ACCEPT} <= set(lines)
        assert b"sec-websocket-protocol: chat" in lines
        assert not any(b"extensions" in line for line in lines)

    run(scenario())


@pytest.mark.parametrize(("offered", "answer"), [(b"one, two", b"two"), (b"one", None), (None, None)])
def test_a_chosen_subprotocol_is_answered_if_it_was_offered(offered: bytes | None, answer: bytes | None) -> None:
    """A client refuses a connection with a subprotocol that it did not ask for."""

    async def scenario() -> None:
        headers = [(b"Sec-WebSocket-Protocol", offered)] if offered else []
        client = await World(Doorkeeper("two")).connect(*headers)
        found = [line for line in client.head.split(b"\r\n") if line.startswith(b"sec-websocket-protocol")]
        assert found == ([b"sec-websocket-protocol: " + answer] if answer else [])

    run(scenario())


def replaced(name: bytes, *values: bytes) -> bytes:
    return handshake(headers=[*(header for header in HEADERS if header[0] != name), *((name, value) for value in values)])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (replaced(b"Sec-WebSocket-Key"), 400),
        (replaced(b"Sec-WebSocket-Key", b"short"), 400),
        (replaced(b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25j"), 400),
        (replaced(b"Sec-WebSocket-Key", b"\xff" * 24), 400),
        (replaced(b"Sec-WebSocket-Key", HEADERS[3][1], HEADERS[3][1]), 400),
        (replaced(b"Sec-WebSocket-Version"), 426),
        (replaced(b"Sec-WebSocket-Version", b"8"), 426),
        (replaced(b"Sec-WebSocket-Version", b"13", b"13"), 426),
        (replaced(b"Sec-WebSocket-Protocol", b"a,,b"), 400),
        (replaced(b"Sec-WebSocket-Protocol", b"a b"), 400),
        (replaced(b"Sec-WebSocket-Protocol", b"a", b"a"), 400),
        (handshake(method=b"POST"), 405),
        (handshake().replace(b"HTTP/1.1", b"HTTP/1.0", 1), 505),
    ],
)
def test_what_is_no_handshake_opens_nothing(request_: bytes, status: int) -> None:
    """An application that asks is told which status it is; one that does not and accepts gets an error. Neither gets a socket."""

    async def asks(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["extensions"]["stead.socket"].check()
        except HTTPException as exc:
            await JSONResponse({}, exc.status_code)(scope, receive, send)

    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def scenario() -> None:
        for app, expected in ((asks, status), (accepts, 500), (Doorkeeper(), 500)):
            client = World(app).dial(request_)
            await until(lambda client=client: client.has_eof)  # type: ignore[misc]
            assert client.head.startswith(b"HTTP/1.1 %d " % expected)

    run(scenario())


def test_what_a_client_sends_before_it_is_let_in_waits() -> None:
    """It is delivered in order, after the answer; without end it is not even read."""

    async def scenario(seed: int) -> None:
        keeper = Doorkeeper(wait_s=5.0)
        world = World(keeper, seed=seed)
        eager, flood = world.dial(handshake()), world.dial(handshake())
        eager.send(text("one"), text("two"))
        flood.send(frame(Opcode.BINARY, bytes(4_000_000)))
        await sleep(1.0)
        assert not keeper.opened
        assert flood.transport.get_write_buffer_size() > 3_000_000
        await until(lambda: len(keeper.opened) == 2 and all(recorder.messages for recorder in keeper.opened))
        assert sorted(recorder.messages for recorder in keeper.opened if len(recorder.messages) == 2) == [["one", "two"]]
        assert [bytes(4_000_000)] in [recorder.messages for recorder in keeper.opened]

    on_seeds(scenario, 10)


def test_a_client_that_leaves_during_its_handshake_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(seed: int) -> None:
        keeper = Doorkeeper(wait_s=5.0)
        world = World(keeper, seed=seed)
        client = world.dial(handshake())
        await sleep(1.0)
        client.transport.abort()
        await until(lambda: not world.edge.connections and not world.edge.tasks)
        assert not keeper.opened

    on_seeds(scenario, 10)
    assert not caplog.records


# -- messages ----------------------------------------------------------------------------------------------------------------------


def test_messages_keep_their_kind_order_and_emptiness() -> None:
    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed)
        sent: list[str | bytes] = ["", b"", "ä€😀", b"\xff\x00", "x" * 125, "x" * 126, b"y" * 65_535, b"z" * 65_536]
        for item in sent:
            client.send(text(item) if isinstance(item, str) else frame(Opcode.BINARY, item))
            server.wire.send(Frame(item))
        await until(lambda: len(server.messages) == len(sent) and len(client.frames()) == len(sent))
        assert server.messages == sent
        assert [data for _, data in client.frames()] == sent
        assert [kind for kind, _ in client.frames()] == ["text" if isinstance(item, str) else "binary" for item in sent]

    on_seeds(scenario)


def test_one_frame_is_encoded_once() -> None:
    """However many sockets get it: a broadcast costs one encoding."""

    async def scenario() -> None:
        keeper = Doorkeeper()
        world = World(keeper)
        for _ in range(3):
            await world.connect()
        sent = Frame("to all")
        keeper.opened[0].wire.send(sent)
        encoded = sent.encoded
        for recorder in keeper.opened[1:]:
            recorder.wire.send(sent)
        assert encoded is not None
        assert sent.encoded is encoded

    run(scenario())


def test_pings_are_answered_with_what_they_carry() -> None:
    async def scenario() -> None:
        _, client, server = await opened()
        client.send(frame(Opcode.PING, b"a"), frame(Opcode.PING), frame(Opcode.PONG, b"unasked"), frame(Opcode.PING, b"b" * 125))
        await until(lambda: len(client.frames()) == 3)
        assert client.frames() == [("pong", b"a"), ("pong", b""), ("pong", b"b" * 125)]
        assert not server.messages

    run(scenario())


def test_a_paused_client_waits_and_nothing_overtakes() -> None:
    """Nothing is delivered while a wire is paused, not even what had arrived with the message at which it was."""

    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed)
        server.on_message = lambda data: server.wire.pause() if data == "1" else None
        expected = [str(number) for number in range(6)]
        client.send(*map(text, expected), frame(Opcode.BINARY, bytes(1_000_000)), close(4000))
        await until(lambda: len(server.messages) == 2)
        await sleep(100.0)
        assert server.messages == ["0", "1"]
        assert server.end is None
        assert client.transport.get_write_buffer_size() > 500_000
        server.wire.resume()
        await until(lambda: server.end is not None)
        assert server.messages == [*expected, bytes(1_000_000)]
        assert server.end == (4000, "", None)

    on_seeds(scenario)


# -- ends --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "echo", "end"),
    [
        (close(1000, b"bye"), (1000, "bye"), (1000, "bye", None)),
        (close(4999, "käse".encode()), (4999, "käse"), (4999, "käse", None)),
        (frame(Opcode.CLOSE), (1005, ""), (1005, "", None)),
    ],
    ids=["1000", "4999", "none"],
)
def test_a_client_that_closes_is_answered_at_once(sent: bytes, echo: tuple[int, str], end: tuple[Any, ...]) -> None:
    """The close is echoed, the connection ends without a wait, and the receiver hears the client's code once."""

    async def scenario(seed: int) -> None:
        world, client, server = await opened(seed)
        client.send(text("last"), sent)
        await until(lambda: client.has_eof, limit_s=1.0)
        assert client.frames() == [("close", echo)]
        assert server.messages == ["last"]
        assert server.end == end
        client.transport.close()
        await until(lambda: not world.edge.connections)

    on_seeds(scenario)


def test_a_lost_connection_is_1006_and_no_error() -> None:
    """Clients vanish all the time; what they had sent is delivered before, even to a receiver that had paused them."""

    delivered: list[int] = []

    async def scenario(seed: int) -> None:
        world, client, server = await opened(seed)
        server.on_message = lambda data: server.wire.pause() if data == "1" else None
        client.send(text("1"), text("2"))
        await until(lambda: bool(server.messages))
        await sleep(1.0)
        assert server.messages == ["1"]
        client.link.drop()
        server.wire.send(Frame("is anybody there?"))
        await until(lambda: server.end is not None)
        assert server.end == (1006, "", None)
        assert not world.edge.connections
        delivered.append(len(server.messages))
        server.wire.send(Frame("no"))
        server.wire.close(1000, "")
        server.wire.pause()
        server.wire.resume()

    on_seeds(scenario)
    assert set(delivered) == {1, 2}, "the second message had come with the first, or had not"


def test_what_had_come_before_the_end_is_delivered_to_who_pauses_again() -> None:
    """A receiver that asks for one message at a time gets the others, and the close behind them, when the connection is lost."""
    delivered: list[int] = []

    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed)
        server.on_message = lambda data: server.wire.pause()
        client.send(*map(text, "12345"), close(4000, b"bye"))
        await until(lambda: bool(server.messages))
        client.link.drop()
        server.wire.send(Frame("is anybody there?"))
        await until(lambda: server.end is not None)
        assert "12345".startswith("".join(map(str, server.messages)))
        assert server.end in ((4000, "bye", None), (1006, "", None))
        delivered.append(len(server.messages) + (server.end == (4000, "bye", None)))

    on_seeds(scenario)
    assert max(delivered) == 6, "all of it had come at once, now and then"


def test_what_we_close_ends_with_our_code_when_the_client_answers() -> None:
    """And no message is delivered after it."""

    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed)
        server.wire.pause()
        client.send(text("on its way"))
        await sleep(0.1)
        server.wire.send(Frame("last"))
        server.wire.close(4001, "enough")
        server.wire.close(1000, "twice")
        server.wire.send(Frame("late"))
        await until(lambda: len(client.frames()) == 2)
        assert client.frames() == [("text", "last"), ("close", (4001, "enough"))]
        assert server.end is None
        client.send(close(4001))
        await until(lambda: server.end is not None, limit_s=1.0)
        assert server.end == (4001, "enough", None)
        assert not server.messages

    on_seeds(scenario)


def test_a_client_that_does_not_answer_a_close_is_dropped() -> None:
    async def scenario(seed: int) -> None:
        world, client, server = await opened(seed)
        server.wire.close(1001, "")
        await sleep(CLOSE_S - 0.5)
        assert server.end is None
        await sleep(1.0)
        assert server.end == (1006, "", None)
        assert client.has_eof
        assert not world.edge.connections

    on_seeds(scenario)


def test_a_long_reason_is_cut_between_characters() -> None:
    async def scenario() -> None:
        _, client, server = await opened()
        server.wire.close(1011, "€" * 100)
        await until(lambda: bool(client.frames()))
        assert client.frames() == [("close", (1011, "€" * 41))]

    run(scenario())


def test_a_server_that_stops_says_so() -> None:
    """Also to a client that is only let in while it stops."""

    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed)
        keeper = Doorkeeper(wait_s=1.0)
        late_world = World(keeper, seed=seed)
        late = late_world.dial(handshake())
        await sleep(0.5)
        for connection in (*late_world.edge.connections,):
            connection.shutdown()
        await until(lambda: bool(late.head))
        server.wire.close(1012, "the server stops")
        await until(lambda: bool(client.frames()) and bool(late.frames()))
        assert late.frames() == client.frames() == [("close", (1012, "the server stops"))]

    on_seeds(scenario, 10)


def test_a_message_over_the_limit_is_refused_by_its_header() -> None:
    """1009 with both sizes, before the payload has come; fragments count together. The rest of what it sends is not kept."""

    async def scenario(seed: int) -> None:
        limits = SocketLimits(message_bytes_max=1000)
        for begins, size in (((), 1001), ((frame(Opcode.TEXT, "x" * 900, fin=False), frame(Opcode.PING)), 101)):
            world, client, server = await opened(seed, limits)
            opcode = Opcode.CONT if begins else Opcode.TEXT
            client.send(*begins, frame(opcode, "x" * size)[:8])
            await until(lambda client=client: client.has_eof)  # type: ignore[misc]
            reason = "a message of at least 1,001 bytes; the limit is 1,000"
            assert client.frames()[-1] == ("close", (1009, reason))
            assert server.end is not None
            assert server.end[:2] == (1009, reason)
            assert isinstance(server.end[2], Violation)
            client.send(bytes(1_000_000))
            await sleep(CLOSE_S + 1)
            assert client.transport.get_write_buffer_size() == 0
            assert not server.messages
            assert not world.edge.connections

    on_seeds(scenario, 10)


# -- slow consumers ----------------------------------------------------------------------------------------------------------------


def test_a_slow_consumer_is_closed_and_never_memory() -> None:
    """Past the limit: 1013 to the client, an error to the receiver, once; the others go on. Below it all arrives."""

    async def scenario(seed: int) -> None:
        keeper = Doorkeeper()
        world = World(keeper, SocketLimits(buffer_bytes_max=1_000_000), seed)
        slow, fast = await world.connect(), await world.connect()
        slow.transport.pause_reading()
        frames = [Frame(bytes(100_000)) for _ in range(20)]
        for number, sent in enumerate(frames):
            ends = [recorder.end for recorder in keeper.opened]
            for recorder in keeper.opened:
                recorder.wire.send(sent)
            assert ends == [recorder.end for recorder in keeper.opened], "told in the middle of sending"
            await until(lambda number=number: len(fast.frames()) == number + 1)  # type: ignore[misc]
        gone, other = keeper.opened
        assert gone.end is not None
        assert gone.end[0] == 1013
        assert isinstance(gone.end[2], ConnectionFailed)
        assert other.end is None
        slow.transport.resume_reading()
        await until(lambda: slow.has_eof)
        assert 10 <= len(slow.frames()) <= 13
        assert slow.frames()[-1][1][0] == 1013
        slow.transport.abort()
        await until(lambda: len(world.edge.connections) == 1)

    on_seeds(scenario, 5)


def test_a_slow_consumer_that_reads_nothing_more_is_dropped() -> None:
    async def scenario() -> None:
        world, client, server = await opened(limits=SocketLimits(buffer_bytes_max=0))
        client.transport.pause_reading()
        for _ in range(3):
            server.wire.send(Frame(bytes(200_000)))
        await sleep(0.1)
        assert server.end is not None
        assert server.end[0] == 1013
        await sleep(CLOSE_S)
        assert not world.edge.connections

    run(scenario())


def test_a_client_that_pings_and_does_not_read_is_bounded() -> None:
    """Pongs count like messages."""

    async def scenario() -> None:
        world, client, server = await opened(limits=SocketLimits(buffer_bytes_max=10_000))
        client.transport.pause_reading()
        client.send(frame(Opcode.PING, b"x" * 125) * 1_000)
        await until(lambda: server.end is not None)
        assert server.end is not None
        assert server.end[0] == 1013
        await until(lambda: not world.edge.connections)

    run(scenario())


# -- the heartbeat -----------------------------------------------------------------------------------------------------------------


def test_a_silent_client_is_asked_and_then_dropped() -> None:
    """Within a tick of 20 s after its last sign of life, and of 20 s more: 1006 with an error."""

    async def scenario(seed: int) -> None:
        world, client, server = await opened(seed)
        await sleep(10.3)
        client.send(frame(Opcode.PONG))
        await sleep(20.0 - 0.1)
        assert not client.frames()
        await sleep(2.1)
        assert client.frames() == [("ping", b"")]
        await sleep(17.5)
        assert server.end is None
        await sleep(3.0)
        assert server.end is not None
        assert server.end[:2] == (1006, "")
        assert isinstance(server.end[2], ConnectionFailed)
        assert not world.edge.connections
        assert len(client.frames()) == 1

    on_seeds(scenario, 20)


@pytest.mark.parametrize("limits", [SocketLimits(), SocketLimits(ping_s=5.0, pong_s=60.0), SocketLimits(ping_s=60.0, pong_s=3.0)])
def test_a_client_that_answers_lives(limits: SocketLimits) -> None:
    """With a pong, or with anything else; whichever wait is the longer."""

    async def scenario(seed: int) -> None:
        _, client, server = await opened(seed, limits)
        for count in range(1, 30):
            await until(lambda count=count: len(client.frames()) == count, step_s=0.2)  # type: ignore[misc]
            await sleep(limits.pong_s * 0.9 if seed % 2 else 0.0)
            client.send(frame(Opcode.PONG) if count % 2 else text("x"))
        assert server.end is None

    on_seeds(scenario, 4)


def test_a_busy_client_is_not_asked() -> None:
    async def scenario() -> None:
        _, client, server = await opened()
        for _ in range(100):
            await sleep(15.0)
            client.send(text("x"))
        assert not client.frames()
        assert server.end is None

    run(scenario())


def test_a_paused_client_is_not_blamed_for_its_silence() -> None:
    """Its pong cannot be read; it is asked again once it can."""

    async def scenario() -> None:
        _, client, server = await opened()
        await sleep(15.0)
        server.wire.pause()
        await sleep(3600.0)
        assert server.end is None
        server.wire.resume()
        await sleep(50.0)
        assert server.end is not None
        assert server.end[0] == 1006
        assert client.is_lost or client.has_eof

    run(scenario())


def test_a_client_that_still_reads_is_not_dropped_for_its_silence() -> None:
    """A ping waits behind what was sent before it: while that shrinks, somebody is there. When it does not, nobody is."""

    async def scenario() -> None:
        _, client, server = await opened()
        server.wire.send(Frame(bytes(4_000_000)))
        client.transport.pause_reading()
        for _ in range(20):
            await sleep(18.0)
            client.transport.resume_reading()
            client.transport.pause_reading()
            client.transport.resume_reading()
            await sleep(0.0)
            client.transport.pause_reading()
        assert server.end is None
        await sleep(70.0)
        assert server.end is not None

    run(scenario())


def test_one_timer_watches_all() -> None:
    """However many connections there are; and none is left when there are none: the loop comes to rest."""

    async def scenario() -> None:
        keeper = Doorkeeper()
        world = World(keeper)
        clients = [await world.connect() for _ in range(100)]
        loop = asyncio.get_running_loop()
        await sleep(0.5)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) == 1
        for client in clients:
            client.transport.abort()
        await until(lambda: not world.edge.connections)
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    run(scenario())


# -- applications that do not take the connection over -----------------------------------------------------------------------------


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-room", b"7")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    ENDS.append(message)
    with pytest.raises(Disconnected):
        await send({"type": "websocket.send", "text": "late"})


ENDS: list[Any] = []


def test_a_plain_application_talks_asgi() -> None:
    async def scenario(seed: int) -> None:
        ENDS.clear()
        world = World(echo, seed=seed)
        client = await world.connect((b"Sec-WebSocket-Protocol", b"a, b"))
        assert {b"sec-websocket-protocol: b", b"x-room: 7"} <= set(client.head.split(b"\r\n"))
        sent = [str(number) for number in range(100)]
        client.send(*map(text, sent), frame(Opcode.BINARY, b"\x00"))
        await until(lambda: len(client.frames()) == 101)
        client.send(close(4321, b"done"))
        await until(lambda: client.has_eof and not world.edge.tasks)
        assert client.frames() == [*(("text", data) for data in sent), ("binary", b"\x00"), ("close", (4321, "done"))]
        assert ENDS == [{"type": "websocket.disconnect", "code": 4321, "reason": "done"}]

    on_seeds(scenario)


def test_a_plain_application_and_its_client_hold_each_other_back() -> None:
    """Neither what it does not receive nor what its client does not read is kept without end."""

    async def scenario() -> None:
        go = asyncio.Event()
        sizes: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            sizes.extend([len((await receive())["bytes"]) for _ in range(100)])
            for _ in range(300):
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
            await send({"type": "websocket.close", "code": 4000, "reason": "that is all"})

        world = World(app)
        client = await world.connect()
        client.send(frame(Opcode.BINARY, bytes(50_000)) * 100)
        await sleep(10.0)
        assert client.transport.get_write_buffer_size() > 3_000_000
        client.transport.pause_reading()
        go.set()
        await sleep(10.0)
        assert sizes == [50_000] * 100
        client.transport.resume_reading()
        await until(lambda: len(client.frames()) == 301)
        assert client.frames()[-1] == ("close", (4000, "that is all"))

    run(scenario())


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"why": "full"}, 409, {"connection": "keep-alive"})(scope, receive, send)


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def is_silent(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a bug")


async def smuggles(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept", "headers": [(b"x", b"1\r\nset-cookie: a=b")]})


@pytest.mark.parametrize(("app", "status"), [(refuses, 409), (closes, 403), (is_silent, 500), (raises, 500), (smuggles, 500)])
def test_an_application_that_does_not_accept_has_a_status(app: Session, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World(app)
        client = world.dial(handshake())
        await until(lambda: client.has_eof)
        assert client.head.startswith(b"HTTP/1.1 %d " % status)
        assert client.head.count(b"connection:") == 1
        assert b"connection: close" in client.head
        assert b"set-cookie" not in client.head
        if status == 409:
            assert client.data.endswith(b'{"why":"full"}')
        client.transport.close()
        await until(lambda: not world.edge.connections and not world.edge.tasks)

    run(scenario())
    assert bool(caplog.records) is (app in {raises, smuggles})


def test_half_a_refusal_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 404, "headers": [(b"content-length", b"10")]})
        await send({"type": "websocket.http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("torn")

    async def scenario() -> None:
        world = World(app)
        client = world.dial(handshake())
        await until(lambda: client.has_eof and not world.edge.connections)
        assert b"500" not in client.data

    run(scenario())
    assert caplog.records[-1].levelno == logging.ERROR


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ({}, 1000),
        ({"type": "websocket.close"}, 1000),
        ({"type": "websocket.close", "code": 3000, "reason": None}, 3000),
        ({"type": "websocket.close", "code": 1006}, 1011),
        ({"type": "websocket.close", "code": 5000}, 1011),
        ({"type": "websocket.accept"}, 1011),
        ({"type": "nonsense"}, 1011),
    ],
)
def test_an_application_that_ends_closes_its_socket(ends: dict[str, Any], code: int) -> None:
    """With 1000 where it returns, its own code where it has one that exists, 1011 where it fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if ends:
            await send(ends)

    async def scenario() -> None:
        client = await World(app).connect()
        await until(lambda: bool(client.frames()))
        assert client.frames() == [("close", (code, ""))]

    run(scenario())


def test_an_application_that_fails_after_handing_over_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["stead.socket"].accept(lambda wire: 1 / 0)

    async def scenario() -> None:
        world = World(app)
        client = await world.connect()
        await until(lambda: bool(client.frames()))
        assert client.frames() == [("close", (1011, ""))]
        client.send(text("ignored"), close(1011))
        await until(lambda: not world.edge.connections)

    run(scenario())
    assert "a WebSocket failed" in caplog.text


def test_a_cancelled_application_says_1012() -> None:
    """uvicorn cancels what outlasts the time it has to stop."""

    async def scenario() -> None:
        world = World(echo)
        client = await world.connect()
        for task in (*world.edge.tasks,):
            task.cancel()
        await until(lambda: bool(client.frames()))
        assert client.frames() == [("close", (1012, ""))]

    run(scenario())
