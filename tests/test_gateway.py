"""The gateway: hosts, limits, problems, streams and what never gets through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.background import BackgroundTask
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stead.api import HTTPException, JSONResponse, Request, Response, Service, StreamingResponse, route
from stead.clock import SystemClock
from stead.errors import AppError, EngineFailed, Invalid, Overloaded
from stead.events import Fetch
from stead.gateway import Directory, Gateway, Limits, Operations, Site
from stead.ids import Chance
from stead.runtime.env import Bindings
from stead.runtime.services import ServiceRunner
from tests.scopes import http_scope

REPLIES: dict[str, Exception] = {}


class PaymentFailed(Exception):
    code = 402


class Api(Service):
    """Answers in every way that a handler can."""

    @route("GET", "/")
    async def index(self, request: Request) -> str:
        return f"api at {request.url.hostname}"

    @route("POST", "/echo")
    async def echo(self, request: Request) -> bytes:
        return await request.body()

    @route("POST", "/json")
    async def json(self, request: Request) -> dict[str, Any]:
        return {"got": await request.json()}

    @route("GET", "/names/{name}")
    async def name(self, request: Request, name: str) -> str:
        return name

    @route("GET", "/raise/{what}")
    async def fail(self, request: Request, what: str) -> None:
        raise REPLIES[what]

    @route("GET", "/bug")
    async def bug(self, request: Request) -> None:
        secret = {"password": "hunter2"}
        raise KeyError(str(secret))

    @route("GET", "/stream")
    async def stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one,"
            yield b"two"

        return StreamingResponse(chunks(), media_type="text/plain")

    @route("GET", "/torn")
    async def torn(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("torn")

        return StreamingResponse(chunks())

    @route("GET", "/file")
    async def file(self, request: Request) -> Response:
        return FileResponse(__file__)

    @route("GET", "/odd")
    async def odd(self, request: Request) -> Any:
        return 7


def application(status: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/silent":
            return
        await Response(f"mounted at {scope['path']}", status)(scope, receive, send)

    return app


RUNNERS = {
    "api": ServiceRunner("api", Api, Bindings(SystemClock())),
    "web": ServiceRunner("web", application(203), Bindings(SystemClock())),
    "vault": ServiceRunner("vault", application(200), Bindings(SystemClock())),
    "partner": ServiceRunner("partner", application(200), Bindings(SystemClock())),
}


async def deliver(target: str, event: Fetch) -> Response:
    return await RUNNERS[target].fetch(event)


SITES = [
    Site("api", cname="Shop-API"),
    Site("api", fqdn="api.example.org"),
    Site("web"),
    Site("vault", "private", cname="vault", fqdn="vault.example.org"),
    Site("partner", "protected", cname="partner"),
]
ALL = Directory(SITES, base_domains=["stead.example"])
ONLY = Directory([Site("api"), Site("vault", "private", cname="vault")])


def gateway(directory: Directory = ONLY, limits: Limits = Limits(), **operations: Any) -> Gateway:
    return Gateway(deliver, directory, limits, Operations(chance=Chance(1), **operations))


def ask(app: Gateway, method: str, url: str, **options: Any) -> httpx.Response:
    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.request(method, url, **options)

    return asyncio.run(request())


def scope(path: str = "/", method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"x"),), **more: Any) -> Scope:
    return http_scope(path, method, headers, **more)


async def drive(app: ASGIApp, scope: Scope, *incoming: Message) -> list[Message]:
    """What the application sends when `incoming` arrives and then nothing more."""
    waiting = list(incoming)
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def status_for(app: Gateway, host: bytes | None, **more: Any) -> int:
    headers = ((b"host", host),) if host is not None else ()
    return int(asyncio.run(drive(app, scope(headers=headers, **more)))[0]["status"])


# --- hosts


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"shop-api.localhost", 200),
        (b"shop-api.localhost:8700", 200),
        (b"SHOP-api.LocalHost:8700", 200),
        (b"shop-api.localhost.", 200),
        (b"shop-api.stead.example", 200),
        (b"api.example.org", 200),
        (b"API.example.org:443", 200),
        (b"web.localhost", 203),
        (b"api.localhost", 404),
        (b"shop-api", 404),
        (b"shop-api.example.org", 404),
        (b"x.shop-api.localhost", 404),
        (b"localhost", 404),
        (b"127.0.0.1:8700", 404),
        (b"[::1]:8700", 404),
        (b"vault.localhost", 404),
        (b"vault.example.org", 404),
        (b"vault", 404),
        (b"partner.localhost", 404),
        (b"partner", 404),
    ],
)
def test_the_host_decides_the_service(host: bytes, status: int) -> None:
    """A cname answers as first label below the base domains, an fqdn whole, a name without domain itself; private ones never."""
    assert status_for(gateway(ALL), host) == status


@pytest.mark.parametrize(
    "host", [b"localhost", b"127.0.0.1:1", b"[::1]:8700", b"[fe80::1]", b"anything.example", b"vault.localhost"]
)
def test_one_public_service_answers_everywhere(host: bytes) -> None:
    """Where only one service is public, every host is its own, a private one's included."""
    sent = asyncio.run(drive(gateway(), scope(headers=((b"host", host),))))
    assert sent[0]["status"] == 200
    assert sent[1]["body"].startswith(b"api at ")


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/b", b"a@b", b"[::1", b"a:b", b"a:123456", b"\xff", b"a" * 300, b"a\r\nb", b"a,b"]
)
def test_a_malformed_host_is_refused(host: bytes) -> None:
    """A Host that is no host is 400, whoever would have answered."""
    assert status_for(gateway(), host) == 400


def test_a_request_names_one_host() -> None:
    """HTTP/1.1 without Host, or with two, is 400; HTTP/1.0 may leave it out."""
    assert status_for(gateway(), None) == 400
    assert status_for(gateway(), None, http_version="1.0") == 200
    assert asyncio.run(drive(gateway(), scope(headers=((b"host", b"a"), (b"host", b"a")))))[0]["status"] == 400


def test_known_addresses_are_shown_in_development_only() -> None:
    """An unknown host lists the addresses, with the port it came by, only in development; private services are not among them."""
    shown = ask(gateway(ALL, describe=repr), "GET", "http://nowhere:8700/").json()["detail"]
    assert "http://shop-api.localhost:8700" in shown
    assert "http://web.stead.example:8700" in shown
    assert "vault" not in shown
    assert "shop-api" not in ask(gateway(ALL), "GET", "http://nowhere:8700/").text


def test_two_services_at_one_host_are_refused() -> None:
    """Two services that claim one host are an error at construction that names both."""
    with pytest.raises(Invalid, match=r"'a' and 'b' both answer at a\.localhost"):
        Directory([Site("a"), Site("b", cname="A")])


# --- operations


async def admin(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/bug"):
        raise RuntimeError("bug")
    if scope["path"].endswith("/torn"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("torn")
    await Response(f"admin {scope['path']}")(scope, receive, send)


def test_readiness_is_told_on_every_host() -> None:
    """/_stead/ready and /_stead/health are 200 when ready and 503 before, whatever the host."""
    for path in ("ready", "health"):
        for host in ("localhost", "nowhere.example", "vault.localhost"):
            assert ask(gateway(ALL), "GET", f"http://{host}/_stead/{path}").status_code == 200
            assert ask(gateway(ALL, is_ready=lambda: False), "GET", f"http://{host}/_stead/{path}").status_code == 503


def test_the_operators_paths_are_reserved() -> None:
    """Everything below /_stead is the operator's application's, 404 without one; what only looks like it is the service's."""
    for path in ("/_stead", "/_stead/", "/_stead/api/x"):
        assert ask(gateway(), "GET", f"http://x{path}").json()["detail"] == f"nothing is at {path}"
        assert ask(gateway(admin=admin), "GET", f"http://x{path}").text == f"admin {path}"
    assert "Api has no route" in ask(gateway(admin=admin), "GET", "http://x/_steady").text
    assert ask(gateway(admin=admin), "GET", "http://x/_stead/bug").status_code == 500


def test_a_torn_answer_of_the_operators_application_is_raised() -> None:
    """It may not get a second beginning."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    with pytest.raises(RuntimeError, match="torn"):
        asyncio.run(_call(gateway(admin=admin), scope("/_stead/torn"), receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


# --- limits


def body_in_chunks(*chunks: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return body


def test_a_large_body_is_refused() -> None:
    """A body over the limit is 413 and closes the connection, by its Content-Length before anything ran or while it streams."""
    small = gateway(limits=Limits(body_bytes_max=10))
    assert ask(small, "POST", "http://x/echo", content=b"0123456789").content == b"0123456789"
    assert ask(small, "POST", "http://x/echo", content=body_in_chunks(b"01234", b"56789")()).content == b"0123456789"
    for content in (b"0123456789a", body_in_chunks(b"01234", b"56789", b"a")()):
        refused = ask(small, "POST", "http://x/echo", content=content)
        assert refused.status_code == 413
        assert refused.headers["connection"] == "close"
        assert refused.json()["detail"] == "the body is over the limit of 10 bytes"


@pytest.mark.parametrize("length", [b"9" * 30, b"9" * 5000])
def test_an_absurd_content_length_is_refused(length: bytes) -> None:
    """A Content-Length of any size is a number too large, not a crash."""
    headers = ((b"host", b"x"), (b"content-length", length))
    assert asyncio.run(drive(gateway(), scope("/echo", "POST", headers)))[0]["status"] == 413


def test_long_urls_and_headers_are_refused() -> None:
    """Path and query over the limit are 414, headers 431."""
    tight = gateway(limits=Limits(url_bytes_max=100, header_bytes_max=300))
    for size, status in ((93, 200), (94, 414)):
        assert ask(tight, "GET", f"http://x/names/{'n' * size}").status_code == status
    assert ask(tight, "GET", "http://x/", params={"q": "n" * 100}).status_code == 414
    assert ask(tight, "GET", "http://x/", headers={"x-long": "n" * 300}).status_code == 431


def test_paths_that_are_not_text_never_meet() -> None:
    """Servers decode bytes that are no UTF-8 to one and the same character: such paths are refused, the character itself is not."""
    strange = scope("/names/\ufffd", raw_path=b"/names/%FF")
    assert asyncio.run(drive(gateway(), strange))[0]["status"] == 400
    assert ask(gateway(), "GET", "http://x/names/%EF%BF%BD").text == "\ufffd"


# --- failures


def test_http_errors_keep_status_and_headers() -> None:
    """An HTTPException becomes a problem with its status, detail and headers, and the request's id."""
    REPLIES["teapot"] = HTTPException(418, "no coffee", {"X-Tea": "green"})
    answer = ask(gateway(), "GET", "http://x/raise/teapot")
    assert (answer.status_code, answer.headers["x-tea"]) == (418, "green")
    assert answer.headers["content-type"] == "application/problem+json"
    request_id = answer.headers["x-request-id"]
    assert answer.json() == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "no coffee",
        "request_id": request_id,
    }


def test_the_wrong_method_and_path() -> None:
    """405 carries Allow, 404 says so, and HEAD gets headers without a body."""
    refused = ask(gateway(), "PATCH", "http://x/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert ask(gateway(), "GET", "http://x/nope").status_code == 404
    for path, status in (("/", 200), ("/stream", 200), ("/file", 200), ("/nope", 404), ("/bug", 500)):
        head = ask(gateway(), "HEAD", f"http://x{path}")
        assert (head.status_code, head.content) == (status, b"")


def test_malformed_json_is_400_with_its_position() -> None:
    """The client learns where its body is wrong."""
    answer = ask(gateway(), "POST", "http://x/json", content=b'{"a": }')
    assert answer.status_code == 400
    assert answer.json()["detail"] == "malformed JSON at line 1 column 7 (position 6): Expecting value"


@pytest.mark.parametrize(
    ("error", "status", "detail", "kind"),
    [
        (Invalid("a key is text"), 400, "a key is text", "urn:stead:error:Invalid"),
        (EngineFailed("/var/secret.db is broken"), 503, "The storage engine could not do", "urn:stead:error:EngineFailed"),
        (PaymentFailed("declined"), 402, "declined", "about:blank"),
        (HTTPException(999), 500, "", "about:blank"),
        (HTTPException(409, {"a": [1]}), 409, {"a": [1]}, "about:blank"),  # type: ignore[arg-type]
        (HTTPException(400, "\ud800"), 400, r"'\ud800'", "about:blank"),
    ],
)
def test_errors_become_problems(error: Exception, status: int, detail: object, kind: str) -> None:
    """Each error has its status; below 500 its message is the client's to read, above only its kind."""
    REPLIES["it"] = error
    answer = ask(gateway(), "GET", "http://x/raise/it")
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    told = answer.json().get("detail", "")
    assert told == detail or (isinstance(detail, str) and told.startswith(detail))
    assert "secret" not in answer.text


def test_overload_says_when_to_come_back() -> None:
    """Overloaded is 503 with Retry-After in whole seconds, at least one."""
    for retry_after_s, header in ((0.2, "1"), (1.0, "1"), (2.1, "3")):
        REPLIES["busy"] = Overloaded(retry_after_s=retry_after_s)
        answer = ask(gateway(), "GET", "http://x/raise/busy")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, header)


@pytest.mark.parametrize("error", [ValueError("hunter2"), AppError("hunter2"), type("E", (Exception,), {"code": 200})("hunter2")])
def test_unexpected_errors_tell_nothing_outside_development(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the request's id only, and the log has the traceback under it."""
    REPLIES["it"] = error
    answer = ask(gateway(), "GET", "http://x/raise/it")
    request_id = answer.headers["x-request-id"]
    assert answer.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500, "request_id": request_id}
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert request_id in record.getMessage()
    assert record.exc_info is not None and record.exc_info[1] is error


def test_unexpected_errors_are_described_in_development() -> None:
    """In development the problem has the message, and the error as the assembler describes it."""
    told = ask(gateway(describe=lambda error: f"described {error!r}"), "GET", "http://x/bug").json()
    assert told["detail"].startswith("KeyError: ")
    assert told["traceback"].startswith("described KeyError(")


def test_a_handlers_odd_answer_is_its_own_fault() -> None:
    """A value that cannot become a response is 500 and named in development."""
    told = ask(gateway(describe=repr), "GET", "http://x/odd").json()
    assert told["status"] == 500
    assert told["detail"].startswith("InvalidResponse: Api.odd returned a value of type int")


def test_an_error_that_cannot_be_shown() -> None:
    """An error whose text raises is still a problem."""

    class Broken(Exception):
        code = 400

        def __str__(self) -> str:
            raise RuntimeError("no text")

    REPLIES["broken"] = Broken()
    assert ask(gateway(), "GET", "http://x/raise/broken").json()["detail"] == "Broken, whose __str__ raised RuntimeError"


# --- streams and clients that leave


def test_streams_and_files_stream() -> None:
    """A streaming response arrives in its chunks, a file whole."""
    sent = asyncio.run(drive(gateway(), scope("/stream"), {"type": "http.request", "body": b"", "more_body": False}))
    assert [message.get("body") for message in sent[1:]] == [b"one,", b"two", b""]
    assert ask(gateway(), "GET", "http://x/file").content == Path(__file__).read_bytes()


def test_a_failure_in_mid_stream_never_looks_whole() -> None:
    """It is raised to the server, which closes the connection; no last chunk is sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the client stays")

    with pytest.raises(RuntimeError, match="torn"):
        asyncio.run(_call(gateway(), scope("/torn"), receive, send))
    assert [message.get("more_body") for message in sent] == [None, True]


def test_an_application_that_says_nothing_is_an_error() -> None:
    """A mounted application that returns without a response is 500."""
    assert ask(gateway(ALL), "GET", "http://web.localhost/silent").status_code == 500


def test_a_client_that_leaves_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is sent and nothing is logged when the body never arrives whole; it is reported as 499."""
    seen: list[int] = []
    app = gateway(on_request=lambda method, host, path, status, duration_s, error: seen.append(status))
    assert asyncio.run(drive(app, scope("/echo", "POST"), {"type": "http.disconnect"})) == []
    assert seen == [499]
    assert caplog.records == []


def test_what_a_client_asked_for_runs_to_its_end() -> None:
    """A handler whose client has left is not cancelled by the gateway."""
    ended: list[str] = []

    async def slow(target: str, event: Fetch) -> Response:
        await event.receive()
        for _ in range(3):
            assert (await event.receive())["type"] == "http.disconnect"
        ended.append("whole")
        return Response("late")

    gone: Message = {"type": "http.disconnect"}
    asyncio.run(drive(Gateway(slow, ONLY), scope(), {"type": "http.request"}, gone, gone, gone))
    assert ended == ["whole"]


def test_background_work_of_a_response_runs() -> None:
    """A response with a background task is sent first, then the task runs."""
    log: list[str] = []

    async def work(target: str, event: Fetch) -> Response:
        async def after() -> None:
            log.append("after")

        return JSONResponse({}, background=BackgroundTask(after))

    assert ask(Gateway(work, ONLY), "GET", "http://x/").json() == {}
    assert log == ["after"]


def test_the_event_holds_plain_keys() -> None:
    """What reaches a unit is HTTP's own keys, no object of the server's."""
    seen: list[Scope] = []

    async def keep(target: str, event: Fetch) -> Response:
        seen.append(event.scope)
        return Response()

    asyncio.run(drive(Gateway(keep, ONLY), scope(state={"pool": object()}, extensions={"x": {}}, root_path="/proxy")))
    assert set(seen[0]) == set(scope())
    assert seen[0]["root_path"] == ""


# --- reports and other protocols


class FixedClock:
    """A clock whose time is told to it."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_ms(self) -> int:
        return 0

    def elapsed_s(self) -> float:
        self.at_s += 0.25
        return self.at_s


def test_every_request_is_reported() -> None:
    """The hook gets method, host, path, status, duration and error, also of what is refused or torn."""
    seen: list[tuple[Any, ...]] = []
    app = gateway(ALL, on_request=lambda *report: seen.append(report), clock=FixedClock())
    ask(app, "GET", "http://shop-api.localhost:8700/")
    ask(app, "GET", "http://nowhere/x")
    ask(app, "GET", "http://web.localhost/y")
    with pytest.raises(RuntimeError):
        ask(app, "GET", "http://shop-api.localhost/torn")
    assert [report[:5] for report in seen] == [
        ("GET", "shop-api.localhost:8700", "/", 200, 0.25),
        ("GET", "nowhere", "/x", 404, 0.25),
        ("GET", "web.localhost", "/y", 203, 0.25),
        ("GET", "shop-api.localhost", "/torn", 500, 0.25),
    ]
    assert [type(report[5]) for report in seen] == [type(None), HTTPException, type(None), RuntimeError]


def test_sockets_are_refused_before_they_open() -> None:
    """A WebSocket is closed during its handshake with a reason, and a client that already left gets nothing."""
    socket = scope(type="websocket")
    (closed,) = asyncio.run(drive(gateway(), socket, {"type": "websocket.connect"}))
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    assert closed["reason"]
    assert asyncio.run(drive(gateway(), socket, {"type": "websocket.disconnect"})) == []


def test_lifespan_is_answered() -> None:
    """The server's startup and shutdown complete."""
    sent = asyncio.run(drive(gateway(), {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_disconnect_at_send_is_no_failure() -> None:
    """A server that tells of a disconnect by raising while a stream is sent ends the stream quietly."""

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    newer = {"version": "3.0", "spec_version": "2.4"}
    asyncio.run(_call(gateway(), scope("/stream", asgi=newer), receive, send))
