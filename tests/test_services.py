"""Services: routes, calls, mounted applications, and values that become responses."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.types import Message, Receive, Scope, Send

from stead import codec
from stead.api import HTTPException, Request, Response, Service, StreamingResponse, current_env, route
from stead.clock import SystemClock
from stead.errors import Ambiguous, AppError, Invalid, Unavailable
from stead.events import Call, Fetch
from stead.runtime.env import Bindings
from stead.runtime.responses import InvalidResponse, collect, make_request, to_response
from stead.runtime.services import ServiceRunner
from stead.runtime.tasks import Tasks
from tests.scopes import http_scope

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def receiving(*chunks: bytes) -> Receive:
    """A body in chunks, and then a client that stays and says nothing more."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


def fetch_event(method: str, path: str, body: bytes = b"") -> Fetch:
    return Fetch(http_scope(path, method), receiving(body))


def answer(runner: ServiceRunner, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    async def fetch() -> tuple[int, bytes]:
        event = fetch_event(method, path, body)
        response = await collect(await runner.fetch(event), event)
        return response.status_code, bytes(response.body)

    return run(fetch())


def refusal(runner: ServiceRunner, method: str, path: str, body: bytes = b"") -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        answer(runner, method, path, body)
    return caught.value


def call(runner: ServiceRunner, method: str, *args: object, **kwargs: object) -> Any:
    return codec.decode(run(runner.call(Call(method, codec.encode([list(args), kwargs])))))


@dataclasses.dataclass
class Point:
    x: int


class Size(msgspec.Struct):
    width: int


class Model(BaseModel):
    price: Decimal


# --- values that become responses


@pytest.mark.parametrize(
    ("value", "status", "content_type", "body"),
    [
        ("höß", 200, "text/plain; charset=utf-8", "höß".encode()),
        (b"\0\1", 200, "application/octet-stream", b"\0\1"),
        ({"a": [1, None]}, 200, "application/json", b'{"a":[1,null]}'),
        ([1 << 80], 200, "application/json", str([1 << 80]).encode()),
        ("", 200, "text/plain; charset=utf-8", b""),
    ],
)
def test_values_become_responses(value: Any, status: int, content_type: str, body: bytes) -> None:
    """Text, bytes, dicts and lists become responses of their type with the length of their body."""
    response = to_response(value, "Api.x")
    assert (response.status_code, response.headers["content-type"], response.body) == (status, content_type, body)
    assert response.headers["content-length"] == str(len(body))


def test_none_becomes_no_content() -> None:
    """None is 204 without length, type or body; a response stays itself."""
    response = to_response(None, "Api.x")
    assert (response.status_code, response.raw_headers, response.body) == (204, [], b"")
    own = Response("x", 418)
    assert to_response(own, "Api.x") is own


def test_json_writes_rich_values() -> None:
    """Values that storage takes need no help inside a dict."""
    value = {
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Decimal("1.10"),
        "id": UUID(int=1),
        "point": Point(1),
        "size": Size(2),
        "model": Model(price=Decimal("3.5")),
    }
    assert json.loads(bytes(to_response(value, "Api.x").body)) == {
        "at": "2026-01-02T00:00:00Z",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "point": {"x": 1},
        "size": {"width": 2},
        "model": {"price": "3.5"},
    }


@pytest.mark.parametrize("value", [7, object(), (1, 2), {"x": object()}, {"x": "\ud800"}, "\ud800", {(1, 2): 3}])
def test_other_values_are_refused_by_name(value: Any) -> None:
    """What cannot become a response is the handler's mistake: the error names it, and is no 400."""
    with pytest.raises(InvalidResponse, match=r"^Api\.index returned ") as caught:
        to_response(value, "Api.index")
    assert caught.value.status == 500


def test_an_endless_value_is_refused() -> None:
    """A list that contains itself is refused instead of crashing."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidResponse):
        to_response(value, "Api.index")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"a": 1,\n "b": }', "malformed JSON at line 2 column 7 (position 15): Expecting value"),
        (b"", "malformed JSON at line 1 column 1 (position 0): the body is empty"),
        (b'"\xff"', "malformed JSON: 'utf-8' codec"),
        (b"[" * 200_000, "malformed JSON: maximum recursion"),
        (b"1" * 5000, "malformed JSON: Exceeds the limit"),
    ],
)
def test_malformed_json_says_where(body: bytes, detail: str) -> None:
    """A request's `json()` answers a malformed body with 400 and its position."""
    request = make_request(fetch_event("POST", "/").scope, receiving(body))
    with pytest.raises(HTTPException) as caught:
        run(request.json())
    assert caught.value.status_code == 400
    assert caught.value.detail.startswith(detail)


def test_a_json_error_of_the_handlers_own_stays_its_own() -> None:
    """Only the request's body makes a malformed text the client's fault."""

    class Api(Service):
        @route("GET", "/")
        async def index(self, request: Request) -> dict[str, Any]:
            loaded: dict[str, Any] = json.loads("{")
            return loaded

    with pytest.raises(json.JSONDecodeError):
        answer(ServiceRunner("api", Api, Bindings(SystemClock())), "GET", "/")


# --- routes


class Shop(Service):
    @route("GET", "/carts/{user}")
    async def show(self, request: Request, user: str) -> dict[str, Any]:
        return {"user": user, "params": request.path_params}

    @route("GET", "/carts/new")
    async def new(self, request: Request) -> str:
        return "new"

    @route("POST", "/carts/{user}/items/{count:int}")
    async def add(self, request: Request, user: str, count: int) -> dict[str, Any]:
        return {"user": user, "count": count + 1}

    @route("PUT", "/a")
    @route("PUT", "/b")
    async def both(self, request: Request) -> str:
        return request.url.path

    @route("GET", "/files/{rest:path}")
    async def files(self, request: Request, **params: str) -> str:
        return params["rest"]

    async def total(self, prices: list[int], factor: int = 1) -> int:
        return sum(prices) * factor


SHOP = ServiceRunner("shop", Shop, Bindings(SystemClock()))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/carts/anna", b'{"user":"anna","params":{"user":"anna"}}'),
        ("GET", "/carts/new", b"new"),
        ("HEAD", "/carts/new", b"new"),
        ("POST", "/carts/anna/items/4", b'{"user":"anna","count":5}'),
        ("PUT", "/a", b"/a"),
        ("PUT", "/b", b"/b"),
        ("GET", "/files/x/y/z", b"x/y/z"),
        ("GET", "/files/", b""),
    ],
)
def test_requests_reach_their_route(method: str, path: str, expected: bytes) -> None:
    """Literal paths win over patterns declared before them; values are converted; GET answers HEAD."""
    assert answer(SHOP, method, path) == (200, expected)


def test_the_wrong_method_is_told_the_right_ones() -> None:
    """A path that exists answers 405 with Allow, over all routes that match it."""
    error = refusal(SHOP, "DELETE", "/carts/new")
    assert (error.status_code, error.headers) == (405, {"allow": "GET, HEAD"})


@pytest.mark.parametrize(
    "path", ["/nope", "/carts/", "/carts/a/b", "/carts/a\n", f"/carts/a/items/{'9' * 5000}", "/carts/a/items/-1", ""]
)
def test_unknown_paths_are_not_found(path: str) -> None:
    """A path that no route has is 404, also when a value cannot be converted."""
    assert refusal(SHOP, "POST", path).status_code in {404, 405}
    assert refusal(SHOP, "BREW", "/nope").status_code == 404


def test_fetch_answers_what_no_route_matches() -> None:
    """An overridden `fetch` is the fallback for paths, not for methods."""

    class Api(Service):
        @route("GET", "/known")
        async def known(self, request: Request) -> str:
            return "known"

        async def fetch(self, request: Request) -> str:
            return f"fetch {request.method}"

    runner = ServiceRunner("api", Api, Bindings(SystemClock()))
    assert answer(runner, "GET", "/known") == (200, b"known")
    assert answer(runner, "PATCH", "/else") == (200, b"fetch PATCH")
    assert refusal(runner, "POST", "/known").status_code == 405


def test_routes_of_bases_come_after_the_classs_own() -> None:
    """A class's own patterns are tried first, and an override without @route is no handler."""

    class Base(Service):
        @route("GET", "/{anything:path}")
        async def base(self, request: Request, anything: str) -> str:
            return "base"

        @route("POST", "/gone")
        async def gone(self, request: Request) -> str:
            return "gone"

    class Sub(Base):
        @route("GET", "/{word}")
        async def own(self, request: Request, word: str) -> str:
            return "own"

        async def gone(self, request: Request) -> str:
            return "not a handler"

    runner = ServiceRunner("sub", Sub, Bindings(SystemClock()))
    assert answer(runner, "GET", "/x") == (200, b"own")
    assert answer(runner, "GET", "/x/y") == (200, b"base")
    assert refusal(runner, "POST", "/gone").status_code == 405


def bad_pattern() -> type[Service]:
    class Api(Service):
        @route("GET", "/{n:integer}")
        async def index(self, request: Request, n: int) -> None: ...

    return Api


def bad_braces() -> type[Service]:
    class Api(Service):
        @route("GET", "/{user-id}")
        async def index(self, request: Request) -> None: ...

    return Api


def repeated_parameter() -> type[Service]:
    class Api(Service):
        @route("GET", "/{a}/{a}")
        async def index(self, request: Request, a: str) -> None: ...

    return Api


def not_async() -> type[Service]:
    class Api(Service):
        @route("GET", "/")
        def index(self, request: Request) -> str:
            return ""

    return Api


def missing_parameter() -> type[Service]:
    class Api(Service):
        @route("GET", "/{user}")
        async def index(self, request: Request) -> None: ...

    return Api


def extra_parameter() -> type[Service]:
    class Api(Service):
        @route("GET", "/")
        async def index(self, request: Request, user: str) -> None: ...

    return Api


def equal_routes() -> type[Service]:
    class Api(Service):
        @route("GET", "/{user}")
        async def other(self, request: Request, user: str) -> None: ...

        @route("GET", "/{id}")
        async def index(self, request: Request, id: str) -> None: ...

    return Api


def bad_method() -> type[Service]:
    class Api(Service):
        @route("GET POST", "/")
        async def index(self, request: Request) -> None: ...

    return Api


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_pattern, "Unknown path convertor 'integer'"),
        (bad_braces, "a parameter reads {name}"),
        (repeated_parameter, "Duplicated param name a"),
        (not_async, "must be `async def`"),
        (missing_parameter, "must accept (self, request, user)"),
        (extra_parameter, "must accept (self, request)"),
        (equal_routes, "is Api.other's route already"),
        (bad_method, "'GET POST' is no HTTP method"),
    ],
)
def test_wrong_declarations_are_refused_before_anything_is_served(make: Callable[[], type[Service]], message: str) -> None:
    """A route that cannot work is refused at construction, naming class and method."""
    with pytest.raises(Invalid) as caught:
        ServiceRunner("api", make(), Bindings(SystemClock()))
    assert str(caught.value).startswith("Api.index")
    assert message in str(caught.value)


# --- calls


def test_calls_reach_public_methods() -> None:
    """A public async method is callable with positional and named arguments."""
    assert call(SHOP, "total", [1, 2]) == 3
    assert call(SHOP, "total", [1, 2], factor=10) == 30


@pytest.mark.parametrize(
    ("method", "args", "message"),
    [
        ("totl", [[1]], "did you mean 'total'?"),
        ("_private", [], "no callable method '_private'"),
        ("fetch", [], "no callable method 'fetch'"),
        ("show", ["anna"], "no callable method 'show'"),
        ("total", ["x"], "argument 'prices' must be"),
        ("total", [], "missing argument 'prices'"),
    ],
)
def test_calls_that_do_not_fit_are_refused(method: str, args: list[object], message: str) -> None:
    """An unknown method, a route or a wrong argument is `Invalid` and says what is wrong."""
    with pytest.raises(Invalid) as caught:
        call(SHOP, method, *args)
    assert message in str(caught.value)


# --- bindings


def test_bindings_are_there_while_code_runs_and_not_after() -> None:
    """`current_env()` works in __init__, handlers, methods and streamed bodies, each with the unit's own bindings."""
    env = Bindings(SystemClock())
    seen: list[object] = []

    class Api(Service):
        def __init__(self) -> None:
            seen.append(current_env())
            seen.append(self.env)

        @route("GET", "/stream")
        async def stream(self, request: Request) -> Response:
            seen.append(current_env())

            async def chunks() -> AsyncIterator[bytes]:
                seen.append(current_env())
                yield b"a"
                yield b"b"

            async def after() -> None:
                seen.append(current_env())

            return StreamingResponse(chunks(), 202, background=BackgroundTask(after))

        async def method(self) -> None:
            seen.append(current_env())

    runner = ServiceRunner("api", Api, env)
    assert answer(runner, "GET", "/stream") == (202, b"ab")
    call(runner, "method")
    assert seen == [env] * 6
    with pytest.raises(Unavailable):
        current_env()


# --- mounted applications


def test_a_mounted_application_answers_with_its_bindings() -> None:
    """Any ASGI application serves as a service; its bindings are current and it is mounted at the root."""
    app = FastAPI()

    @app.get("/hello/{name}")
    async def hello(name: str, request: Request) -> dict[str, str]:
        return {"hello": name, "env": current_env().label, "root": request.scope["root_path"]}

    runner = ServiceRunner("web", app, Bindings(SystemClock()).with_variables({"label": "web"}))
    status, body = answer(runner, "GET", "/hello/anna")
    assert (status, json.loads(body)) == (200, {"hello": "anna", "env": "web", "root": ""})
    assert answer(runner, "GET", "/nope")[0] == 404
    with pytest.raises(Invalid, match="no callable methods"):
        call(runner, "hello")


def test_a_mounted_application_sees_errors_of_its_body() -> None:
    """What the gateway raises while the body arrives is answered by the application, in its own style."""
    app = FastAPI()

    @app.post("/")
    async def post(body: dict[str, str]) -> None: ...

    async def receive() -> Message:
        raise HTTPException(413, "too large")

    async def work() -> Response:
        scope = fetch_event("POST", "/").scope
        event = Fetch({**scope, "headers": [(b"content-type", b"application/json")]}, receive)
        return await collect(await ServiceRunner("web", app, Bindings(SystemClock())).fetch(event), event)

    response = run(work())
    assert (response.status_code, response.body) == (413, b'{"detail":"too large"}')


def test_a_handler_that_is_no_application_is_refused() -> None:
    """A handler that is neither a Service class nor callable is refused by name."""
    with pytest.raises(Invalid, match="neither a subclass of Service nor an ASGI application"):
        ServiceRunner("web", 7, Bindings(SystemClock()))  # type: ignore[arg-type]


@asynccontextmanager
async def owned() -> AsyncIterator[Tasks]:
    tasks = Tasks()
    yield tasks
    await tasks.close()


def test_the_lifespan_of_a_mounted_application_runs() -> None:
    """Startup and shutdown run once each, with the bindings, and what startup keeps is each request's state."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = "the pool"
            for _ in range(2):
                message = await receive()
                log.append(f"{message['type']} in {current_env().label}")
                await send({"type": f"{message['type']}.complete"})
        else:
            await Response(scope["state"]["pool"])(scope, receive, send)

    async def work() -> bytes:
        runner = ServiceRunner("web", app, Bindings(SystemClock()).with_variables({"label": "web"}))
        event = fetch_event("GET", "/")
        async with owned() as tasks:
            await runner.start(tasks)
            response = await collect(await runner.fetch(event), event)
            await runner.close()
        return bytes(response.body)

    assert run(work()) == b"the pool"
    assert log == ["lifespan.startup in web", "lifespan.shutdown in web"]


def test_an_application_without_lifespan_starts() -> None:
    """An application that raises on a lifespan scope, and a Service, start and close all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    async def work() -> None:
        async with owned() as tasks:
            for service in (app, Shop):
                runner = ServiceRunner("web", service, Bindings(SystemClock()))
                await runner.start(tasks)
                await runner.close()

    run(work())


def test_a_failed_startup_is_told() -> None:
    """An application that says its startup failed stops the start with its message."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    async def work() -> str:
        async with owned() as tasks:
            with pytest.raises(AppError) as caught:
                await ServiceRunner("web", app, Bindings(SystemClock())).start(tasks)
        return str(caught.value)

    assert run(work()) == "the application mounted as 'web' failed to start: no database"


# --- whole bodies


def test_half_a_stream_is_never_collected_as_a_whole() -> None:
    """A response that ends before its last chunk raises `Ambiguous`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with pytest.raises(Ambiguous):
        answer(ServiceRunner("web", app, Bindings(SystemClock())), "GET", "/")


def test_a_collected_body_is_bounded() -> None:
    """A body over the limit of a message is refused while it arrives."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(8 * 1024 * 1024)

    async def work() -> None:
        await collect(StreamingResponse(chunks()), fetch_event("GET", "/"))

    with pytest.raises(Invalid, match="the limit between units"):
        run(work())
    assert sent == 5
