"""The client: it finds rooms as partysocket does, comes back by itself, and loses and doubles nothing it has promised."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from stead import Actor, HTTPException, Invalid, Overloaded, Request, Socket
from stead.api import Env, Response
from stead.client import (
    Backoff,
    Closed,
    Disconnected,
    Failed,
    HandshakeRefused,
    Opened,
    Published,
    Reset,
    RoomAddress,
    RoomSocket,
    Settings,
    SocketEvent,
    replayed,
)
from stead.clock import sleep
from stead.ids import Chance
from stead.rooms import Replay
from stead.testing import TestApp, check, run


class Chat(Actor):
    """Broadcasts what it hears; knows how to close, and whom not to let in."""

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        status = request.query_params.get("refuse")
        if status is not None:
            raise HTTPException(int(status), "not today")
        return None

    async def on_connect(self, socket: Socket, request: Request) -> None:
        if "greet" in request.query_params:
            socket.send(f"hello {socket.id} {request.query_params['greet']}")

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        if message == "close me":
            socket.close(4001, "as you wish")
        else:
            self.broadcast(message)


class Feed(Replay, Actor):
    replay_messages_max = 5

    async def write(self, data: Any) -> int:
        return await self.publish(data)


def in_app(test: Callable[[TestApp], Coroutine[Any, Any, None]], seeds: int = 20) -> None:
    async def scenario(seed: int) -> None:
        async with TestApp.of(actors={"chat": Chat, "feed": Feed}) as app:
            await test(app)

    check(scenario, seeds)


def settings(app: TestApp, **more: Any) -> Settings:
    return Settings(connector=app.dial, chance=Chance(app.seed), **more)


def chat(app: TestApp, id: str = "ann", **more: Any) -> RoomSocket:
    return RoomSocket("localhost", party="chat", room="lobby", id=id, settings=settings(app, **more))


def task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.com", "wss://example.com"),
        ("example.com/", "wss://example.com"),
        ("example.com:8443", "wss://example.com:8443"),
        ("room.user.partykit.dev", "wss://room.user.partykit.dev"),
        ("localhost:8700", "ws://localhost:8700"),
        ("127.0.0.1:8700", "ws://127.0.0.1:8700"),
        ("192.168.1.7", "ws://192.168.1.7"),
        ("192.168.1.7:80", "ws://192.168.1.7:80"),
        ("10.0.0.1:8700", "ws://10.0.0.1:8700"),
        ("172.16.0.1", "ws://172.16.0.1"),
        ("172.31.0.1", "ws://172.31.0.1"),
        ("172.15.0.1", "wss://172.15.0.1"),
        ("172.32.0.1", "wss://172.32.0.1"),
        ("[::ffff:7f00:1]:8700", "ws://[::ffff:7f00:1]:8700"),
        ("localhost.example.com:80", "wss://localhost.example.com:80"),
        # beyond partysocket: names of this machine without a port or below localhost, and schemes that mean what they say
        ("localhost", "ws://localhost"),
        ("shop.localhost:8700", "ws://shop.localhost:8700"),
        ("[::1]:8700", "ws://[::1]:8700"),
        ("ws://example.com:8700", "ws://example.com:8700"),
        ("http://example.com", "ws://example.com"),
        ("https://localhost:8700", "wss://localhost:8700"),
    ],
)
def test_hosts(host: str, origin: str) -> None:
    """This machine and private networks are reached with ws, all others with wss."""
    assert RoomAddress(host, "lobby").url({}) == f"{origin}/parties/main/lobby?"


def test_paths_and_queries() -> None:
    """A room is one segment whatever it holds; the query is encoded as forms are, and None is left out."""
    assert RoomAddress("h", "a/b c%", "über", "sub/é").url({"_pk": "1", "q": "x y&", "n": None}) == (
        "wss://h/parties/%C3%BCber/a%2Fb%20c%25/sub/%C3%A9?_pk=1&q=x+y%26"
    )
    assert RoomAddress("h", "r", prefix="/rooms/").url({}) == "wss://h/rooms/main/r?"

    async def main() -> str:
        return RoomSocket("h", room="r", settings=Settings(prefix="rooms")).address.url({})

    assert run(main) == "wss://h/rooms/main/r?"


@pytest.mark.parametrize(
    "wrong", [{"host": "ftp://h"}, {"host": ""}, {"host": "h/path"}, {"room": ""}, {"party": ""}, {"path": "/sub"}], ids=str
)
def test_wrong_addresses(wrong: dict[str, str]) -> None:
    """What cannot be an address is refused when it is made."""
    with pytest.raises(Invalid):
        RoomAddress(**{"host": "h", "room": "r", **wrong})


def test_backoff() -> None:
    """The waits are those of partysocket: a first one of 1 to 5 s, 1.3 times as long each time, at most 10 s."""
    assert {Backoff(first_s=2).drawn(Chance(1)).first_s} == {2}
    firsts = [Backoff().drawn(Chance(seed)).first_s or 0 for seed in range(100)]
    assert 1 <= min(firsts) < 1.5
    assert 4.5 < max(firsts) < 5
    waits = [Backoff(first_s=2).wait_s(failures) for failures in (1, 2, 3, 50, 10_000)]
    assert waits == pytest.approx([2, 2.6, 3.38, 10, 10])


def test_settings_are_checked() -> None:
    """A bound of nothing is a mistake."""
    with pytest.raises(Invalid, match="unsent_messages_max"):
        Settings(unsent_messages_max=0)


def test_messages() -> None:
    """Text, bytes and JSON, both ways, with the id and the query; what was sent before the connection comes first."""

    async def test(app: TestApp) -> None:
        async def query() -> dict[str, str | None]:
            await sleep(1)
            return {"greet": "a&b", "none": None}

        socket = RoomSocket("localhost", party="chat", room="lobby", id="ann", query=query, settings=settings(app))
        async with socket:
            await socket.send("early")
            await socket.send({"n": 1})
            assert (socket.unsent, socket.is_open) == (2, False)
            await socket.wait_open()
            assert (socket.unsent, socket.is_open) == (0, True)
            await socket.send(b"late")
            assert [await socket.receive() for _ in range(4)] == ["hello ann a&b", "early", '{"n":1}', b"late"]
        assert not socket.is_open
        assert [message async for message in socket] == []
        for call in (socket.send("x"), socket.receive(), socket.wait_open()):
            with pytest.raises(Disconnected):
                await call

    in_app(test)


def test_it_comes_back() -> None:
    """After a reset it waits, connects with the same id, sends what had waited in order, and tells its listener of all that."""

    async def test(app: TestApp) -> None:
        events: list[SocketEvent] = []
        async with chat(app, listener=events.append, backoff=Backoff(first_s=2)) as socket:
            await socket.wait_open()
            await app.clock.advance(10)
            app.links[-1].drop()
            await app.clock.advance(1)
            for number in range(5):
                await socket.send(str(number))
            assert socket.unsent == 5
            assert [await socket.receive() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert events == [Opened(0), Closed(1006, "", 2.0), Opened(1), Closed(1000, "", None)]

    in_app(test)


def test_waits_grow_until_a_connection_lasts() -> None:
    """Connections that break at once are tried ever more slowly; one that has lasted begins anew."""

    async def test(app: TestApp) -> None:
        waits: list[float | None] = []
        async with chat(
            app,
            listener=lambda event: waits.append(event.retry_s) if isinstance(event, Closed) else None,
            backoff=Backoff(first_s=2),
        ) as socket:
            for lasts_s in (0, 1, 4.9, 5.1, 0):
                await socket.wait_open()
                await sleep(lasts_s)
                app.links[-1].drop()
                await app.clock.advance()
        assert waits == pytest.approx([2, 2.6, 3.38, 2, 2.6])

    in_app(test, 5)


def test_half_open() -> None:
    """A server that vanished is noticed, as one that answers no ping, and another connection is made."""

    async def test(app: TestApp) -> None:
        async with chat(app) as socket:
            await socket.wait_open()
            app.links[-1].half_open()
            began_s = app.clock.elapsed_s()
            await app.clock.advance(minutes=1)
            await socket.wait_open()
            await socket.send("still here")
            assert await socket.receive() == "still here"
            assert app.clock.elapsed_s() - began_s < 61

    in_app(test, 5)


def test_a_server_that_does_not_answer() -> None:
    """A try takes at most the time that the settings give it, then comes the next one."""

    async def test(app: TestApp) -> None:
        tries: list[float] = []

        async def silent(*args: Any) -> Any:
            tries.append(app.clock.elapsed_s())
            if len(tries) < 3:
                await sleep(1e6)
            return await app.dial(*args)

        events: list[SocketEvent] = []
        quiet = Settings(connector=silent, backoff=Backoff(first_s=2), listener=events.append)
        async with RoomSocket("localhost", party="chat", room="lobby", settings=quiet) as socket:
            await socket.wait_open()
        assert tries == pytest.approx([0, 4 + 2, 4 + 2 + 4 + 2.6])
        assert [type(event) for event in events] == [Failed, Failed, Opened, Closed]
        assert isinstance(events[0], Failed)
        assert isinstance(events[0].error, TimeoutError)

    in_app(test, 1)


def test_a_server_that_crashes() -> None:
    """Over crashes and restarts, what two clients send in between is heard in order, and nothing twice."""

    async def scenario(seed: int) -> None:
        chance = Chance(seed)
        async with TestApp.of(actors={"chat": Chat, "feed": Feed}) as app:
            heard: list[str] = []

            async def listen(socket: RoomSocket) -> None:
                async for message in socket:
                    heard.append(str(message))  # noqa: PERF401 - others look at it meanwhile

            async with chat(app, "ann") as ann, chat(app, "bob") as bob, asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(listen(bob))
                sent = 0
                for _ in range(4):
                    for _ in range(chance.below(4)):
                        await ann.send(str(sent))
                        sent += 1
                        await sleep(chance.fraction())
                    if chance.below(2):
                        await app.crash()
                    elif app.links:
                        app.links[chance.below(len(app.links))].drop()
                await app.clock.advance(minutes=1)
                await ann.send("last")
                while "last" not in heard:
                    await sleep(1)
                listener.cancel()
            assert heard == sorted(set(heard), key=lambda text: int(text) if text != "last" else sent)

    check(scenario, 100)


def test_the_buffer_is_bounded() -> None:
    """Past its bounds nothing more is kept and the caller is told; what was kept arrives."""

    async def test(app: TestApp) -> None:
        async with chat(app, unsent_messages_max=3, unsent_bytes_max=10) as socket:
            await socket.send("é" * 4)
            with pytest.raises(Overloaded, match="1 messages of 8 bytes"):
                await socket.send("xxx")
            await socket.send("")
            await socket.send("y")
            with pytest.raises(Overloaded):
                await socket.send("")
            await socket.wait_open()
            await socket.send("z" * 20)
            assert [await socket.receive() for _ in range(4)] == ["é" * 4, "", "y", "z" * 20]

    in_app(test)


def test_what_is_sent_meanwhile_goes_behind() -> None:
    """While what had waited is being sent, which takes a while, more of it comes last."""

    async def test(app: TestApp) -> None:
        async with chat(app) as socket:
            sent = [bytes([number]) * 20_000 for number in range(40)]
            for message in sent:
                await socket.send(message)
            sender = task(_send(socket, range(40, 120)))
            assert [(await socket.receive())[0] for _ in range(120)] == list(range(120))
            await sender

    async def _send(socket: RoomSocket, numbers: range) -> None:
        while socket.unsent == 40:
            await sleep(0)
        for number in numbers:
            await socket.send(bytes([number]))
            await sleep(0)

    in_app(test)


def test_who_does_not_read_holds_the_server_back() -> None:
    """Unread messages are bounded too: the rest waits at the server, and nothing of it is lost when the program reads on."""

    async def test(app: TestApp) -> None:
        async with chat(app, "ann", unread_messages_max=4) as ann, chat(app, "bob") as bob:
            await ann.wait_open()
            await bob.wait_open()
            reader = task(_drain(bob, 40))
            for number in range(40):
                await bob.send(bytes([number]) * 20_000)
            await reader
            await app.clock.advance(10)
            assert sum(link.server.get_write_buffer_size() for link in app.links) > 100_000
            assert [(await ann.receive())[0] for _ in range(30)] == list(range(30))
            began_s = app.clock.elapsed_s()
        assert app.clock.elapsed_s() - began_s < 5  # what is unread does not hold the end up

    async def _drain(socket: RoomSocket, count: int) -> None:
        for _ in range(count):
            await socket.receive()

    in_app(test, 5)


def test_closes_that_are_final() -> None:
    """A close that the program does not want to come back from ends the messages, and the listener hears of no next try."""

    async def test(app: TestApp) -> None:
        events: list[SocketEvent] = []
        async with chat(
            app, reconnects=lambda code, reason: (code, reason) != (4001, "as you wish"), listener=events.append
        ) as socket:
            await socket.send("hello")
            await socket.send("close me")
            assert [message async for message in socket] == ["hello"]
            assert events[-1] == Closed(4001, "as you wish", None)
            with pytest.raises(Disconnected, match="4001: as you wish"):
                await socket.send("more")

    in_app(test)


def test_refusals() -> None:
    """A 4xx is final and reaches the program with its body; a 503 is tried again, and the program may decide otherwise."""

    async def test(app: TestApp) -> None:
        statuses = iter(["503", "429", "401"])

        def query() -> dict[str, str]:
            return {"refuse": next(statuses)}

        socket = RoomSocket("localhost", party="chat", room="lobby", query=query, settings=settings(app))
        async with socket:
            with pytest.raises(HandshakeRefused, match="not today") as refused:
                await socket.wait_open()
            assert refused.value.status_code == 401
            for call in (socket.receive(), socket.send("x")):
                with pytest.raises(HandshakeRefused):
                    await call
            with pytest.raises(HandshakeRefused):
                async for _ in socket:
                    pass
        decided = settings(app, retries=lambda refusal: False)
        async with RoomSocket("localhost", party="chat", room="lobby", query={"refuse": "503"}, settings=decided) as socket:
            with pytest.raises(HandshakeRefused):
                await socket.wait_open()

    in_app(test, 3)


def test_the_programs_own_errors() -> None:
    """What its query or listener raises ends the socket and is what the program gets."""

    async def test(app: TestApp) -> None:
        def query() -> dict[str, str]:
            raise KeyError("no token")

        async with RoomSocket("localhost", party="chat", room="lobby", query=query, settings=settings(app)) as socket:
            with pytest.raises(KeyError, match="no token"):
                await socket.receive()

    in_app(test, 3)


def test_closing_is_final_whenever_it_comes() -> None:
    """Before, while and after connecting, and with a peer that is gone: the task ends, and no connection is left."""

    async def scenario(seed: int) -> None:
        async with TestApp.of(actors={"chat": Chat, "feed": Feed}) as app:
            async with chat(app) as socket:
                for _ in range(10 * (seed % 2)):
                    await socket.send(b"x" * 20_000)
                for _ in range(seed % 40):
                    await sleep(0)
                if seed % 3 == 0 and app.links:
                    app.links[-1].half_open()
            await app.clock.advance(minutes=1)
            assert app.links == []
            assert not socket.is_open

    check(scenario, 80)


def test_a_replay_goes_on_where_it_was() -> None:
    """What was published while the client was away comes when it is back, once and in order; for a new client a reset is first."""

    async def test(app: TestApp) -> None:
        feed = app.env.FEED.get("news")
        assert await feed.write("before") == 1
        socket = RoomSocket("localhost", party="feed", room="news", settings=settings(app))
        async with socket:
            items = replayed(socket)
            assert await anext(items) == Reset(1)
            await feed.write({"n": 2})
            assert await anext(items) == Published(2, {"n": 2})
            app.links[-1].drop()
            await feed.write(3)
            await feed.write(4)
            assert [await anext(items), await anext(items)] == [Published(3, 3), Published(4, 4)]
            app.links[-1].drop()
            for number in range(5, 12):
                await feed.write(number)
            assert await anext(items) == Reset(11)
            assert socket.resume == {"since": "11"}
            await feed.write(12)
            assert await anext(items) == Published(12, 12)
        async with RoomSocket("localhost", party="feed", room="news", settings=settings(app)) as later:
            assert await anext(replayed(later, since=10)) == Published(11, 11)

    in_app(test)


def test_a_replay_never_doubles_or_skips() -> None:
    """Whatever breaks and whenever, the numbers that a client sees rise by one from reset to reset."""

    async def scenario(seed: int) -> None:
        chance = Chance(seed)
        async with TestApp.of(actors={"chat": Chat, "feed": Feed}) as app:
            feed = app.env.FEED.get("news")
            seen: list[Published | Reset | str | bytes] = []

            async def listen(socket: RoomSocket) -> None:
                async for item in replayed(socket):
                    seen.append(item)
                    await sleep(chance.fraction())

            socket = RoomSocket("localhost", party="feed", room="news", settings=settings(app, unread_messages_max=2))
            async with socket, asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(listen(socket))
                for _ in range(15):
                    match chance.below(5):
                        case 0:
                            await app.crash()
                        case 1 if app.links:
                            app.links[-1].drop()
                        case 2:
                            await sleep(3 * chance.fraction())
                        case _:
                            await feed.write(None)
                await app.clock.advance(minutes=1)
                last = await feed.write("last")
                await app.clock.advance(minutes=1)
                listener.cancel()
            position = None
            for item in seen:
                assert isinstance(item, Published | Reset)
                assert isinstance(item, Reset) or item.seq == (position or 0) + 1, seen
                position = item.seq
            assert position == last

    check(scenario, 150)


def test_other_messages_of_a_replaying_room() -> None:
    """What is no envelope is handed on as it is, also if it looks like one at first."""
    others: list[str | bytes] = [
        "text",
        "{",
        '{"type":"x"}',
        '{"seq":1,"data":2,"more":3}',
        '{"seq":"1"}',
        "{}",
        b'{"seq":1,"data":2}',
    ]

    async def test(app: TestApp) -> None:
        async with chat(app) as socket:
            for message in others:
                await socket.send(message)
            items = replayed(socket)
            assert [await anext(items) for _ in others] == others

    in_app(test, 2)


PROJECT = """application "rooms" {
  actor "chat" { visibility = "public" }
}
"""
APP = """from stead import Actor


class Chat(Actor):
    async def on_message(self, socket, message):
        self.broadcast(message)
"""


@pytest.mark.process
def test_over_tcp(tmp_path: Path) -> None:
    """Against a real server, which is killed and started again on its port: the socket comes back and sends what had waited."""
    (tmp_path / "stead.manifest").write_text(PROJECT)
    (tmp_path / "app.py").write_text(APP)
    servers = [serve(tmp_path, 0)]

    async def main() -> None:
        backoff = Backoff(first_s=0.1, most_s=0.5)
        host = servers[0][1]
        async with asyncio.timeout(60), RoomSocket(host, party="chat", room="a b", settings=Settings(backoff=backoff)) as socket:
            await socket.send("x" * 300_000)
            assert await socket.receive() == "x" * 300_000
            servers[0][0].send_signal(signal.SIGKILL)
            servers[0][0].wait()
            while socket.is_open:
                await sleep(0.01)
            await socket.send("kept")
            servers.append(serve(tmp_path, int(host.rpartition(":")[2])))
            assert await socket.receive() == "kept"

    try:
        asyncio.run(main())
    finally:
        for process, _ in servers:
            process.kill()
            process.communicate()


def serve(directory: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    """A server of the application in `directory`, and the host that it answers at."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "stead", "serve", "--port", str(port)],
        cwd=directory,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        match = re.search(r"http://([\w.]+:[0-9]+)", line)
        if match is not None:
            return process, match[1]
    raise AssertionError(said)
