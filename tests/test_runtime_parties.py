"""The way to an actor from a public address: before-hooks, and services that hand a socket on."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from starlette.types import Message

from stead import Actor, Env, HTTPException, Invalid, Overloaded, Request, Response, Service, Socket, current_env
from stead.events import Fetch, Handover
from stead.ids import named_id
from stead.testing import TestApp
from tests.scopes import http_scope

pytestmark = pytest.mark.usefixtures("clock")
HANDSHAKE = {"upgrade": "websocket", "connection": "keep-alive, Upgrade", "sec-websocket-key": "x"}


class Guarded(Actor):
    """Lets in who its plan lets in."""

    woken: ClassVar[int] = 0

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        return await cls._decide(request, env)

    @classmethod
    async def before_request(cls, request: Request, env: Env) -> Request | Response | None:
        return await cls._decide(request, env)

    @classmethod
    async def _decide(cls, request: Request, env: Env) -> Request | Response | None:
        assert current_env() is env and env.GUARDED is not None
        plan = request.query_params.get("plan")
        if plan == "response":
            return Response("no", 403)
        if plan == "change":
            scope = {**request.scope, "headers": [*request.scope["headers"], (b"x-user", b"ada")], "state": object()}
            return Request(scope, request.receive)
        if plan == "read":
            assert await request.json() == {"a": 1}
        if plan == "wrong":
            return {"a": 1}  # type: ignore[return-value]
        errors = {"raise": ValueError("bad token"), "http": HTTPException(418, "teapot"), "busy": Overloaded("busy")}
        if plan in errors:
            raise errors[plan]
        return None

    async def on_start(self) -> None:
        Guarded.woken += 1

    async def fetch(self, request: Request) -> dict[str, Any]:
        return {"user": request.headers.get("x-user"), "body": (await request.body()).decode()}

    async def on_message(self, socket: Socket, message: str | bytes) -> None: ...


class Plain(Actor):
    async def on_error(self, socket: Socket, error: Exception) -> None: ...


class Static(Actor):
    @staticmethod
    async def before_connect(request: Request, env: Env) -> Response:
        return Response("static", 402)

    async def on_connect(self, socket: Socket, request: Request) -> None: ...


class Front(Service):
    async def fetch(self, request: Request) -> Response:
        room = self.env.actor(Guarded).get("r")
        return await room.connect(request, request.query_params.get("subprotocol"))


def app_of_all() -> TestApp:
    return TestApp.of(actors={"guarded": Guarded, "plain": Plain, "static": Static}, services={"front": Front})


def request(query: str = "", method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b"") -> Fetch:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Fetch(http_scope("/parties/guarded/r/x", method, fields, query_string=query.encode()), receive)


async def visit(app: TestApp, unit: str, event: Fetch, *, is_handshake: bool) -> Response:
    return await app._process.node._runtime.visit(named_id(unit, "r"), event, is_handshake=is_handshake)


@pytest.mark.parametrize("is_handshake", [False, True])
async def test_a_class_answers_before_its_actor_hears_of_it(is_handshake: bool) -> None:
    """With a response, or with an error that is a refusal; nobody is woken by it."""
    async with app_of_all() as app:
        Guarded.woken = 0
        response = await visit(app, "guarded", request("plan=response"), is_handshake=is_handshake)
        assert (response.status_code, response.body) == (403, b"no")
        for plan, status, said in (("raise", 401, "bad token"), ("http", 418, "teapot"), ("busy", 503, "busy")):
            with pytest.raises((HTTPException, Overloaded)) as caught:
                await visit(app, "guarded", request(f"plan={plan}"), is_handshake=is_handshake)
            error: Any = caught.value
            assert getattr(error, "status_code", None) or error.status == status
            assert said in str(error)
        with pytest.raises(Invalid, match=r"Guarded\.before_.* returned a dict"):
            await visit(app, "guarded", request("plan=wrong"), is_handshake=is_handshake)
        assert Guarded.woken == 0


async def test_a_request_goes_on_as_the_class_changed_it() -> None:
    """With its headers, and with its body also where the class has read that."""
    async with app_of_all() as app:
        for plan, user in (("", None), ("change", "ada"), ("read", None)):
            event = request(f"plan={plan}", "POST", body=b'{"a": 1}')
            response = await visit(app, "guarded", event, is_handshake=False)
            expected = b'{"user":%s,"body":"{\\"a\\": 1}"}' % (b'"ada"' if user else b"null")
            assert bytes(response.body) == expected


async def test_a_handshake_goes_on_as_the_class_changed_it() -> None:
    async with app_of_all() as app:
        handover = await visit(app, "guarded", request("plan=change", headers=HANDSHAKE), is_handshake=True)
        assert isinstance(handover, Handover) and handover.actor == named_id("guarded", "r")
        assert (b"x-user", b"ada") in handover.scope["headers"] and "state" not in handover.scope
        assert handover.subprotocol is None and handover.status_code == 101


async def test_a_hook_may_be_a_static_method() -> None:
    async with app_of_all() as app:
        assert (await visit(app, "static", request(), is_handshake=True)).status_code == 402


@pytest.mark.parametrize(("unit", "is_handshake"), [("plain", True), ("plain", False), ("static", False), ("nobody", True)])
async def test_what_a_class_does_not_serve_is_not_found(unit: str, is_handshake: bool) -> None:
    """A class without `fetch` answers no request, one without hooks takes no socket."""
    async with app_of_all() as app:
        with pytest.raises(HTTPException) as caught:
            await visit(app, unit, request(), is_handshake=is_handshake)
        assert caught.value.status_code == 404


async def ask_front(app: TestApp, event: Fetch) -> Any:
    return await app._process.node.deliver("front", event)


async def test_a_service_hands_a_socket_to_an_actor() -> None:
    """With the subprotocol that it chose among the offered ones."""
    async with app_of_all() as app:
        handover = await ask_front(app, request(headers=HANDSHAKE))
        assert isinstance(handover, Handover) and handover.actor == named_id("guarded", "r") and handover.subprotocol is None
        offered = {**HANDSHAKE, "sec-websocket-protocol": "a, b"}
        assert (await ask_front(app, request("subprotocol=b", headers=offered))).subprotocol == "b"
        with pytest.raises(Invalid, match="not offered"):
            await ask_front(app, request("subprotocol=c", headers=offered))


@pytest.mark.parametrize(
    ("method", "without"), [("POST", ""), ("GET", "upgrade"), ("GET", "connection"), ("GET", "sec-websocket-key")]
)
async def test_a_request_that_is_no_handshake_is_told_so(method: str, without: str) -> None:
    async with app_of_all() as app:
        headers = {name: value for name, value in HANDSHAKE.items() if name != without}
        with pytest.raises(HTTPException) as caught:
            await ask_front(app, request(method=method, headers=headers))
        assert caught.value.status_code == 426 and caught.value.headers == {"upgrade": "websocket"}


async def test_an_actor_without_hooks_takes_no_socket() -> None:
    async with app_of_all() as app:
        with pytest.raises(HTTPException) as caught:
            await app.env.PLAIN.get("p").connect(Request(request(headers=HANDSHAKE).scope))
        assert caught.value.status_code == 404
