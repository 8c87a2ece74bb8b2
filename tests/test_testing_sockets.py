"""Sockets of a TestApp: the real edge at the other end, and every fault of the network at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stead import Invalid
from stead.clock import sleep
from stead.testing import Disconnected, HandshakeRefused, Link, TestApp, TestSocket, check, run

ends: list[int] = []  # the codes that the server saw


async def echo(socket: WebSocket) -> None:
    """Answers each message with itself, `close` with a close, and `flood` with 64 messages of 64 KiB."""
    await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                ends.append(message["code"])
                return
            if message.get("text") == "close":
                await socket.close(4001, "so long")
            elif message.get("text") == "flood":
                for number in range(64):
                    await socket.send_bytes(bytes([number]) * 65536)
            elif message.get("text") == "request":
                await socket.send_json({"url": str(socket.url), "header": socket.headers.get("x-colour")})
            elif "text" in message:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect as exc:
        ends.append(exc.code)


async def refuse(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("no entry", 403))


WEB = Starlette(routes=[WebSocketRoute("/echo/{room}", echo), WebSocketRoute("/closed", refuse)])


def in_app(test: Callable[[TestApp], Coroutine[Any, Any, None]], seeds: int = 20) -> None:
    async def scenario(seed: int) -> None:
        ends.clear()
        async with TestApp.of(services={"web": WEB}) as app:
            await test(app)

    check(scenario, seeds)


def test_messages_both_ways() -> None:
    """Text, bytes and JSON keep their kind and order, whatever their size; the handshake's headers and subprotocols go with it."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a?x=1", id="ann b", headers={"x-colour": "blue"}, subprotocols=["chat", "other"]) as socket:
            assert isinstance(socket, TestSocket)
            assert socket.subprotocol == "chat"
            assert socket.response_headers["upgrade"] == "websocket"
            for message in ("", "text", b"", b"\x00\xff", "x" * 200_000):
                await socket.send(message)
                assert await socket.receive() == message
            await socket.send({"a": [1, None]})
            assert await socket.receive_json() == {"a": [1, None]}
            await socket.send("request")
            assert await socket.receive_json() == {"url": "ws://localhost/echo/a?x=1&_pk=ann%20b", "header": "blue"}
            assert socket.is_open
            assert (socket.close_code, socket.close_reason) == (None, None)
            assert [link.is_open for link in app.links] == [True]
        assert not socket.is_open
        assert socket.close_code == 1000
        await app.clock.advance()
        assert ends == [1000]
        assert app.links == []

    in_app(test)


def test_addresses() -> None:
    """A path goes to a host, a URL to its own; what is neither is an error before anything is sent."""

    async def test(app: TestApp) -> None:
        for address, host in (
            ("/echo/a", "web.localhost"),
            ("ws://web.localhost/echo/a", "x"),
            ("http://web.localhost/echo/a", "x"),
        ):
            async with app.connect(address, host=host) as socket:
                await socket.send("request")
                assert (await socket.receive_json())["url"] == "ws://web.localhost/echo/a"
        for wrong in ("echo/a", "ftp://web.localhost/echo/a"):
            with pytest.raises(Invalid):
                app.connect(wrong)

    in_app(test, 1)


def test_closing() -> None:
    """Each side may close, with a code and a reason; messages that came before are still received."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a") as socket:
            await socket.send("last words")
            await socket.send("close")
            assert [message async for message in socket] == ["last words"]
            with pytest.raises(Disconnected) as lost:
                await socket.receive()
            assert (lost.value.code, lost.value.reason) == (socket.close_code, socket.close_reason) == (4001, "so long")
            with pytest.raises(Disconnected):
                await socket.send("too late")
        async with app.connect("/echo/a") as socket:
            await socket.close(4002, "enough")
            await socket.wait_closed()
        await app.clock.advance()
        assert ends[-1] == 4002

    in_app(test)


def test_a_refused_handshake() -> None:
    """The error carries the response's status, headers and body."""

    async def test(app: TestApp) -> None:
        with pytest.raises(HandshakeRefused, match="403: no entry") as refused:
            await app.connect("/closed")
        assert (refused.value.status_code, refused.value.body) == (403, b"no entry")
        assert refused.value.headers["content-type"].startswith("text/plain")
        with pytest.raises(HandshakeRefused):
            async with app.connect("/nowhere"):
                raise AssertionError("the block must not begin")
        await app.clock.advance()
        assert app.links == []

    in_app(test)


def test_a_drop() -> None:
    """Both sides learn of a reset at once, without a goodbye: 1006."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a") as socket:
            socket.drop()
            await socket.wait_closed()
            assert socket.close_code == 1006
            await app.clock.advance()
            assert ends == [1006]

    in_app(test)


def test_half_open() -> None:
    """Nobody is told: the client believes in its connection for ever, the server until its pings stay without an answer."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a") as socket:
            socket.half_open()
            began_s = app.clock.elapsed_s()
            await socket.send("into the void")
            await app.clock.advance(1)
            assert ends == []
            await app.clock.advance(minutes=5)
            assert ends == [1006]
            assert socket.is_open
        assert 300 <= app.clock.elapsed_s() - began_s < 315  # the closing handshake was waited for, and not for ever
        assert socket.close_code == 1006

    in_app(test)


def test_delays() -> None:
    """Virtual seconds in each direction; what is sent keeps its order."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a") as socket:
            socket.delay(up_s=2, down_s=3)
            began_s = app.clock.elapsed_s()
            await socket.send("slow")
            socket.delay()
            await socket.send("fast")
            assert await socket.receive() == "slow"
            assert await socket.receive() == "fast"
            assert app.clock.elapsed_s() - began_s == pytest.approx(2)

    in_app(test)


def test_a_slow_reader() -> None:
    """What is not read piles up at the server, which stops sending; nothing is lost when the client reads on."""

    async def test(app: TestApp) -> None:
        async with app.connect("/echo/a") as socket:
            socket.pause_reading()
            await socket.send("flood")
            await app.clock.advance(10)
            (link,) = app.links
            waiting_bytes = link.server.get_write_buffer_size()
            assert 0 < waiting_bytes < 1_000_000
            socket.resume_reading()
            for number in range(64):
                assert await socket.receive() == bytes([number]) * 65536

    in_app(test, 5)


def test_a_crash_loses_sockets() -> None:
    """Their clients see 1006; what they do then leads to the next process, and nothing of the old one runs on."""

    async def test(app: TestApp) -> None:
        first = await app.connect("/echo/a")
        await first.send("flood")
        held = app._process.node.edge.connections
        assert len(held) == 1
        await app.crash()
        assert not held  # and so no timer
        await first.wait_closed()
        assert first.close_code == 1006
        assert ends == []
        assert app.links == []
        async with app.connect("/echo/a") as second:
            await second.send("again")
            assert await second.receive() == "again"
            await app.clock.advance(hours=1)
            assert second.is_open

    in_app(test)


def test_a_block_that_fails_drops_its_socket() -> None:
    """Its own error is what is raised, at once."""

    async def test(app: TestApp) -> None:
        began_s = app.clock.elapsed_s()
        with pytest.raises(KeyError):
            async with app.connect("/echo/a") as socket:
                socket.half_open()
                raise KeyError("the block's own")
        assert app.clock.elapsed_s() == began_s
        await app.clock.advance()
        assert not socket.is_open

    in_app(test, 1)


def test_an_app_that_ends_ends_its_sockets() -> None:
    """Who is connected is told of a restart; who cannot be reached, or does not read, holds nobody up. Then nobody is let in."""

    async def main() -> None:
        async with TestApp.of(services={"web": WEB}) as app:
            sockets = [await app.connect(f"/echo/{number}") for number in range(3)]
            sockets[1].half_open()
            sockets[2].pause_reading()
            began_s = app.clock.elapsed_s()
        assert app.clock.elapsed_s() - began_s < 10
        sockets[2].resume_reading()
        for number in (0, 2):
            await asyncio.wait_for(sockets[number].wait_closed(), 60)
        assert sockets[0].close_code == 1012
        assert sockets[1].is_open
        with pytest.raises(ConnectionRefusedError):
            await app.connect("/echo/a")

    run(main, seed=3)


def test_a_seed_repeats_a_run() -> None:
    """The order in which two sockets and the server take their steps is the seed's, and the same each time."""

    async def main() -> list[str]:
        order: list[str] = []

        async def client(app: TestApp, name: str) -> None:
            async with app.connect("/echo/a", id=name) as socket:
                for number in range(3):
                    await socket.send(f"{name}{number}")
                    order.append(str(await socket.receive()))

        async with TestApp.of(services={"web": WEB}) as app, asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(client(app, name))
        return order

    orders = [run(main, seed=seed) for seed in range(8)]
    assert orders == [run(main, seed=seed) for seed in range(8)]
    assert len({tuple(order) for order in orders}) > 3


def test_links_are_public() -> None:
    """Faults can be worked on connections that somebody else has opened with `dial`."""

    async def test(app: TestApp) -> None:
        connection = await app.dial("ws://localhost/echo/a", {}, ())
        (link,) = app.links
        assert isinstance(link, Link)
        link.half_open()
        await sleep(60)
        assert connection.close_code == 1006  # it asks whether the server is there, as the real one does

    in_app(test, 3)
