"""Bad input at a real server: a clear error for who sent it, and nothing for anyone else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Serve, Server

pytestmark = pytest.mark.process

LIMIT_S = 60.0
BODY_BYTES_MAX = 1024 * 1024
SILENT_CLIENTS = 300


@pytest.fixture(scope="module")
def server(serve: Serve, boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that is not to harm it. At the end it is alive and has logged no failure of its own making."""
    with serve(boxes, tmp_path_factory.mktemp("bad-input") / "data", "--body-max-mib", "1") as server:
        yield server
        assert server.process.poll() is None
        assert set(server.errors.read_text().splitlines()) <= {"warning: Invalid HTTP request received."}


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client that must be served before and after whatever the test does."""
    with server.client() as client:
        assert client.get("/_stead/ready").status_code == 200
        yield client
        assert client.get("/_stead/ready").status_code == 200


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert body["status"] == status and "traceback" not in body
    return body


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), LIMIT_S)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass  # closed while we were still sending: what came before counts
    return b"".join(parts)


def test_an_unknown_route_is_404(client: httpx.Client) -> None:
    """With the path in a problem."""
    assert "/nowhere" in problem(client.get("/nowhere"), 404)["detail"]


def test_a_wrong_method_is_405(client: httpx.Client) -> None:
    """With the methods that are allowed."""
    response = client.delete("/boxes/a")
    problem(response, 405)
    assert {method.strip() for method in response.headers["allow"].split(",")} >= {"GET", "POST"}


def test_malformed_json_is_400_with_its_position(client: httpx.Client) -> None:
    """And nothing ran."""
    detail = problem(client.post("/boxes/json", content=b'{"text":\n "a" b}'), 400)["detail"]
    assert "line 2" in detail and "column 6" in detail
    assert client.get("/boxes/json/count").text == "0"


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_413(client: httpx.Client, is_chunked: bool) -> None:
    """Announced or counted while it streams; the limit itself is fine."""
    head, tail = b'{"text": "', b'"}'
    for excess, status in ((0, 200), (1, 413)):
        body = head + b"x" * (BODY_BYTES_MAX - len(head) - len(tail) + excess) + tail
        try:
            response = client.post("/boxes/large", content=iter([body[:1000], body[1000:]]) if is_chunked else body)
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            assert status == 413  # it closed before we had sent all of it
        else:
            assert response.status_code == status
            assert status == 200 or f"{BODY_BYTES_MAX:,}" in problem(response, status)["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # a TLS hello
        b"\0" * 10_000,
        b"\xff" * 100_000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        b"POST /boxes/bad HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /boxes/bad HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"POST /boxes/bad HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"GET /boxes/bad\x01 HTTP/1.1\r\nhost: a\r\nx\x00y: 1\r\n\r\n",
    ],
)
def test_garbage_is_refused(server: Server, client: httpx.Client, sent: bytes) -> None:
    """What is not HTTP gets 400, or a closed connection, and reaches no actor."""
    with connect(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 5")), answer
    assert client.get("/boxes/bad/count").text == "0"


def test_a_header_over_the_limit_is_refused(server: Server, client: httpx.Client) -> None:
    """In one piece or in several, one field or many."""
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: " + b"a" * 90_000 + b"\r\n\r\n")
        assert received(connection).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    problem(client.get("/boxes/a", headers={"x": "a" * 60_000, "y": "b" * 5_700}), 431)


def test_pipelined_requests_are_answered_in_order(server: Server, client: httpx.Client) -> None:
    """Sent in one packet, they run one after the other."""
    requests = [b'POST /boxes/pipe HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n{"text":"%d"}' % number for number in range(9)]
    with connect(server) as connection:
        connection.sendall(b"".join(requests) + b"GET /boxes/pipe HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answers = received(connection).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"%d" % number for number in (*range(1, 10), 8)]
    assert client.get("/boxes/pipe").text == "8"


def test_clients_that_never_finish_their_request_stop_nobody(server: Server, client: httpx.Client) -> None:
    """Hundreds of half requests and half bodies wait, and everybody else is served."""
    with ExitStack() as open_connections:
        for number in range(SILENT_CLIENTS):
            connection = open_connections.enter_context(connect(server))
            connection.sendall(
                b"GET /boxes/slow HTTP/1.1\r\nhost: a\r\nx: "
                if number % 2
                else b'POST /boxes/slow HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"te'
            )
        for number in range(1, 21):
            assert client.post("/boxes/quick", json={"text": "a"}).text == str(number)
    assert client.get("/boxes/slow/count").text == "0"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: a\r\nx: ", b"GET /_stead/ready HTTP/1.1\r\nhost: a\r\n\r\nGET /"])
def test_a_header_that_does_not_come_ends_the_connection(serve: Serve, boxes: Path, tmp_path: Path, sent: bytes) -> None:
    """The first of a connection or a later one: after its time the server hangs up, however the bytes trickle."""
    hurried = "import stead.cli.http as http; http.HEADER_S_MAX = 0.3; from stead.cli import main; main()"
    with serve(boxes, tmp_path / "data", launcher=("-c", hurried)) as server, connect(server) as connection:
        connection.sendall(sent)
        connection.settimeout(0.02)
        answer = b""
        while True:
            try:
                part = connection.recv(65_536)
            except TimeoutError:
                if sent:
                    with suppress(OSError):  # closed meanwhile
                        connection.send(b"a")
            except ConnectionResetError:
                break
            else:
                answer += part
                if not part:
                    break
        assert answer.count(b"HTTP/1.1 200 ") == sent.count(b"ready")


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: Server, client: httpx.Client) -> None:
    """Closed in the head, in the body, or before the answer: what was asked whole has happened, what was not has not."""
    request = b'POST /boxes/gone HTTP/1.1\r\nhost: a\r\ncontent-length: 13\r\n\r\n{"text":"ab"}'
    for size in (10, len(request) - 1):
        with connect(server) as connection:
            connection.sendall(request[:size])
    assert client.get("/boxes/gone/count").text == "0"
    with connect(server) as connection:
        connection.sendall(request)
    while client.get("/boxes/gone/count").text != "1":
        pass  # it happens though nobody waits for the answer
    assert client.get("/boxes/gone").text == "ab"


def test_a_half_closed_connection_harms_nobody(server: Server, client: httpx.Client) -> None:
    """A client that closes its sending side is taken for gone: what it asked has happened, once, and the connection ends."""
    with connect(server) as connection:
        connection.sendall(b'POST /boxes/half HTTP/1.1\r\nhost: a\r\ncontent-length: 13\r\n\r\n{"text":"ab"}')
        connection.shutdown(socket.SHUT_WR)
        received(connection)
    while client.get("/boxes/half").text != "ab":
        pass
    assert client.get("/boxes/half/count").text == "1"


def test_many_bad_clients_at_once_harm_no_good_one(server: Server, client: httpx.Client) -> None:
    """Garbage from eight threads while one client counts."""

    def misbehave(number: int) -> None:
        for _ in range(20):
            with connect(server) as connection:
                connection.sendall(bytes([number]) * 1000)
                received(connection)

    with ThreadPoolExecutor(8) as threads:
        bad = [threads.submit(misbehave, number) for number in range(8)]
        for number in range(1, 51):
            assert client.post("/boxes/good", json={"text": "a"}).text == str(number)
        for future in bad:
            future.result(LIMIT_S)
