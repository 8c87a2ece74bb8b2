"""WebSockets at a real server, over TCP: with the client of another library, and with clients that are none."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from tests.process.conftest import Serve, Server

pytestmark = pytest.mark.process

LIMIT_S = 60.0
ROOMS = Path(__file__).with_name("rooms")
FLAGS = ("--socket-message-max-mib", "2", "--socket-buffer-max-mib", "1")
IDLE_SOCKETS = 400  # of one test; the limit of open files is often 1,024
HANDSHAKES = 2_000
HEAD = (
    b"GET /parties/room/%b?_pk=raw HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that is not to harm it. At the end it is alive and has logged nothing."""
    with serve(ROOMS, tmp_path_factory.mktemp("sockets") / "data", *FLAGS) as server:
        yield server
        assert server.process.poll() is None
        assert set(server.errors.read_text().splitlines()) <= {"warning: Invalid HTTP request received."}


def enter(server: Server, room: str, **options: Any) -> AbstractContextManager[ClientConnection]:
    url = f"ws://127.0.0.1:{server.port}/parties/room/{room}"
    client: AbstractContextManager[ClientConnection] = connect(url, max_size=None, open_timeout=LIMIT_S, **options)
    return client


def seen(server: Server, room: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.ask("GET", f"/parties/room/{room}").json()
    return answer


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    with ThreadPoolExecutor(1) as poller:
        stopped: list[bool] = []

        def poll() -> None:
            while not stopped and not condition():
                pass

        try:
            poller.submit(poll).result(limit_s)
        finally:
            stopped.append(True)


def closed(client: ClientConnection) -> tuple[int, str]:
    """How the server ends a connection."""
    with pytest.raises(ConnectionClosed) as ending:
        while True:
            client.recv(LIMIT_S)
    assert ending.value.rcvd is not None
    return int(ending.value.rcvd.code), ending.value.rcvd.reason


def raw(server: Server, room: bytes) -> socket.socket:
    """A connection whose handshake was answered."""
    connection = socket.create_connection(("127.0.0.1", server.port), LIMIT_S)
    connection.sendall(HEAD % room)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65_536)
    assert head.startswith(b"HTTP/1.1 101 ")
    return connection


def rest(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_messages_of_every_size_come_back(server: Server) -> None:
    """Text and binary, whole and in fragments, up to the limit; then 1009, which reaches a client that is still sending."""
    with enter(server, "echo", subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "a"
        for message in ("", "käse", b"", b"\xff", "x" * 100_000, bytes(2 * 1024 * 1024)):
            client.send(message)
            assert client.recv(LIMIT_S) == message
        client.send(["fra", "gmen", "ts"])
        assert client.recv(LIMIT_S) == "fragments"
        client.ping().wait(LIMIT_S)
        client.send(bytes(2 * 1024 * 1024 + 1))
        code, reason = closed(client)
        assert code == 1009
        assert "2,097,153" in reason and "2,097,152" in reason


def test_closes_in_both_directions(server: Server) -> None:
    """The handshake of closing ends at once, with the code of who began it, which `on_close` hears as well."""
    with enter(server, "ends?_pk=one") as client:
        client.close(4321, "mine")
        assert (client.close_code, client.close_reason) == (4321, "mine")
    with enter(server, "ends?_pk=two") as client:
        client.send("close 4567")
        assert closed(client) == (4567, "as you wish")
    connection = raw(server, b"ends")
    connection.close()
    until(lambda: len(seen(server, "ends")["ends"]) == 3)
    assert seen(server, "ends") == {"ends": [["one", 4321, "mine"], ["two", 4567, "as you wish"], ["raw", 1006, ""]], "open": 0}


def test_what_a_client_sends_with_its_handshake_is_not_lost(server: Server) -> None:
    """It should wait for the answer. If it does not, its first frames are in the same packet as its request."""
    with socket.create_connection(("127.0.0.1", server.port), LIMIT_S) as connection:
        connection.sendall(HEAD % b"early" + Frame(Opcode.TEXT, b"early").serialize(mask=True))
        answer = b""
        while not answer.endswith(b"\r\n\r\n\x81\x05early"):
            answer += connection.recv(65_536)


def test_refusals(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{server.port}/parties/none/a"):
        pass
    assert refused.value.response.status_code == 404
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    for sent, status in (
        (HEAD.replace(b"GET", b"POST") % b"a", b"405"),
        (HEAD.replace(b": 13", b": 12") % b"a", b"426"),
        (HEAD.replace(b"dGhl", b"d") % b"a", b"400"),
        (HEAD % b"%FF", b"400"),
        (HEAD % b"\xff\xfe", b"400"),
        (HEAD % (b"a" * 17_000), b"414"),
        (HEAD.replace(b"Host", b"X: " + b"x" * 70_000 + b"\r\nHost") % b"a", b"431"),
        (HEAD.replace(b"1.1\r\n", b"1.0\r\n") % b"a", b"505"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), LIMIT_S) as connection:
            connection.sendall(sent)
            assert rest(connection).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (os.urandom(100_000), None),
        (b"\x81\x05hello", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x82\xff" + struct.pack("!Q", 2**31) + bytes(1000), 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
    ],
    ids=["noise", "unmasked", "reserved", "2 GiB", "endless", "not text", "http"],
)
def test_garbage_ends_its_connection_only(server: Server, sent: bytes, code: int | None) -> None:
    with enter(server, "garbage") as bystander, raw(server, b"garbage") as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(sent)
        answer = rest(connection)
        assert answer[:1] == b"\x88"
        if code is not None:
            assert answer[2:4] == struct.pack("!H", code)
        bystander.send("still here")
        assert bystander.recv(LIMIT_S) == "still here"


def test_a_client_that_sends_half_a_frame_and_leaves(server: Server) -> None:
    for size in (1, 2, 5, 9):
        with raw(server, b"half") as connection:
            connection.sendall(Frame(Opcode.BINARY, bytes(100)).serialize(mask=True)[:size])
    until(lambda: len(seen(server, "half")["ends"]) == 4)
    assert [code for _, code, _ in seen(server, "half")["ends"]] == [1006] * 4
    assert seen(server, "half")["open"] == 0


def test_a_slow_consumer_is_closed_and_the_others_go_on(server: Server) -> None:
    """It costs the server no more than the buffer's limit, and it is told 1013 if it reads on."""
    with enter(server, "slow") as fast, raw(server, b"slow") as slow:
        for _ in range(30):
            fast.send("flood 5")
            for _ in range(5):
                assert len(fast.recv(LIMIT_S)) == 100_000
        until(lambda: seen(server, "slow")["ends"] != [])
        assert seen(server, "slow")["ends"][0][:2] == ["raw", 1013] and seen(server, "slow")["open"] == 1
        assert len(rest(slow)) < 15_000_000 - 1_000_000


def test_a_client_that_never_answers_a_ping_is_dropped(serve: Serve, tmp_path: Path) -> None:
    """With short settings: it hears a ping, and is gone soon after. One that answers stays."""
    with (
        serve(ROOMS, tmp_path / "data", "--socket-ping-s", "0.4", "--socket-pong-s", "0.4") as server,
        enter(server, "pings?_pk=alive") as alive,
        raw(server, b"pings") as silent,
    ):
        assert rest(silent) == b"\x89\x00"
        until(lambda: seen(server, "pings")["ends"] == [["raw", 1006, ""]])
        alive.send("x")
        assert alive.recv(LIMIT_S) == "x"


def test_a_server_that_stops_sends_its_clients_away(serve: Serve, tmp_path: Path) -> None:
    """With 1012, and `on_close` has run and is durable when it has ended, also for a client that does not answer."""
    with serve(ROOMS, tmp_path / "data", "--shutdown-timeout-s", "20") as server, ExitStack() as stack:
        clients = [stack.enter_context(enter(server, f"stop?_pk={number}")) for number in range(20)]
        stack.enter_context(raw(server, b"stop"))
        for client in clients:
            client.send("x")
            assert client.recv(LIMIT_S) == "x"
        os.kill(server.address.pid, signal.SIGTERM)
        assert {closed(client) for client in clients} == {(1012, "the server stops")}
        assert server.process.wait(LIMIT_S) == 0
    with serve(ROOMS, tmp_path / "data") as server:
        ends = seen(server, "stop")["ends"]
        assert sorted(id for id, _, _ in ends) == sorted([*map(str, range(20)), "raw"])
        assert {code for id, code, _ in ends if id != "raw"} == {1012}


def test_thousands_of_clients_that_come_and_go_leave_nothing(server: Server) -> None:
    """Politely, rudely, or without finishing their handshake: the node counts no socket, and its memory has not grown."""

    def come_and_go(number: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), LIMIT_S) as connection:
            if number % 4 == 0:
                connection.sendall((HEAD % b"many")[: number % len(HEAD)])
                return
            connection.sendall(HEAD % b"many")
            if number % 4 == 1:
                return
            assert connection.recv(65_536).startswith(b"HTTP/1.1 101 ")
            if number % 4 == 2:
                connection.sendall(Frame(Opcode.CLOSE, b"").serialize(mask=True))
                rest(connection)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(HANDSHAKES // 4)))
        until(lambda: server.stats()["sockets"] == 0)
        before = resident_bytes(server)
        list(pool.map(come_and_go, range(HANDSHAKES)))
    until(lambda: server.stats()["sockets"] == 0)
    assert resident_bytes(server) - before < 20 * 1024 * 1024


def test_idle_sockets_are_cheap(server: Server) -> None:
    """An idle socket costs the process a few KiB, buffers of the kernel aside."""
    with ExitStack() as stack:
        for _ in range(IDLE_SOCKETS // 4):
            stack.enter_context(raw(server, b"idle"))
        before = resident_bytes(server)
        for _ in range(IDLE_SOCKETS):
            stack.enter_context(raw(server, b"idle"))
        each_bytes = (resident_bytes(server) - before) / IDLE_SOCKETS
        assert each_bytes < 16 * 1024, each_bytes


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.address.pid}/status")
    if not status.exists():
        pytest.skip("how much memory a process has is read from /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
