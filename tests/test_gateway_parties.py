"""Rooms by address: which path is which actor, what reaches it by HTTP and WebSocket, and what a client gets instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI, Header, WebSocket, WebSocketDisconnect
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Scope
from websockets.frames import Opcode

from stead import Actor, Request, Response, Service, Socket, StreamingResponse, route
from stead.api import Env
from stead.client import HandshakeRefused
from stead.errors import Invalid, Overloaded
from stead.events import Fetch, Handover
from stead.gateway import Directory, Gateway, Limits, Operations, Parties, Receiver, Site, Wire
from stead.ids import ActorId, Chance
from stead.manifest import Application, Visibility, schema
from stead.node import LoadedApplication, Node, Operating, Settings
from stead.storage.memory import MemoryEngine, MemoryStore
from stead.testing import TestApp, current_clock, run
from tests.edges import HEADERS, RawClient, Recorder, World, close, frame, handshake, text, until

# -- paths -------------------------------------------------------------------------------------------------------------------------


class NoRooms:
    """Paths are found without asking anybody."""

    async def visit(self, actor: ActorId, event: Fetch, *, is_handshake: bool) -> Response:
        raise AssertionError

    def admit_socket(self, handover: Handover) -> None:
        raise AssertionError

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        raise AssertionError


def scope(raw_path: bytes, **more: Any) -> Scope:
    return {"path": unquote(raw_path.decode("ascii")), "raw_path": raw_path, **more}


def find(path: bytes, *public: str) -> tuple[str, str | None] | int | None:
    """The unit and the name at a path, the status it is refused with, or None for a path of others."""
    try:
        actor = Parties(NoRooms(), public or ("chat", "main")).find(scope(path))
    except HTTPException as exc:
        return exc.status_code
    except Invalid as exc:
        return exc.status
    return (actor.unit, actor.name) if actor is not None else None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/parties/chat/lobby", ("chat", "lobby")),
        (b"/parties/chat/lobby/and/more?x=/parties/main/y".partition(b"?")[0], ("chat", "lobby")),
        (b"/parties/chat/lobby/", ("chat", "lobby")),
        (b"//parties///chat//lobby", ("chat", "lobby")),
        (b"/party/lobby", ("main", "lobby")),
        (b"/party/lobby/more", ("main", "lobby")),
        (b"/parties/chat/a%2Fb", ("chat", "a/b")),
        (b"/parties/chat/a/b", ("chat", "a")),
        (b"/parties/chat/a%252Fb", ("chat", "a%2Fb")),
        (b"/parties/chat/%20", ("chat", " ")),
        (b"/parties/chat/k%C3%A4se", ("chat", "käse")),
        (b"/parties/ch%61t/Lobby", ("chat", "Lobby")),
        (b"/parties/chat/...", ("chat", "...")),
        (b"/parties/chat/" + b"x" * 1024, ("chat", "x" * 1024)),
        (b"/parties/chat/" + b"x" * 1025, 400),
        (b"/parties/chat/a%00b", 400),
        (b"/parties/chat/%FF", 400),
        (b"/parties/chat/lobby/%FF", 400),
        (b"/parties/chat/.", 400),
        (b"/parties/chat/%2e%2E", 400),
        (b"/parties/chat/lobby/../other", 400),
        (b"/parties/../chat", 400),
        (b"/parties/Chat/lobby", 404),
        (b"/parties/none/lobby", 404),
        (b"/parties/chat", 404),
        (b"/parties/chat/", 404),
        (b"/parties", 404),
        (b"/parties/", 404),
        (b"/party", 404),
        (b"/party/", 404),
        (b"/", None),
        (b"/partie", None),
        (b"/partiesx/chat/lobby", None),
        (b"/partying", None),
        (b"/x/parties/chat/lobby", None),
        (b"/Parties/chat/lobby", None),
    ],
)
def test_a_path_names_one_room(path: bytes, found: Any) -> None:
    """The raw path is divided first and each part decoded once, with case, and slashes in a row are one."""
    assert find(path) == found


def test_a_party_without_a_name_is_main_or_the_only_one() -> None:
    assert find(b"/party/x", "chat", "main") == ("main", "x")
    assert find(b"/party/x", "chat") == ("chat", "x")
    assert find(b"/party/x", "chat", "cart") == 404


def test_without_public_actors_the_paths_are_the_services() -> None:
    parties = Parties(NoRooms(), ())
    assert parties.find(scope(b"/parties/chat/lobby")) is None
    assert parties.find(scope(b"/party/lobby")) is None


@given(st.text(min_size=1, max_size=40).filter(lambda name: name not in {".", ".."} and "\0" not in name))
def test_every_name_has_an_address(name: str) -> None:
    """And no two names one: P9."""
    path = b"/parties/chat/" + "".join(f"%{byte:02X}" for byte in name.encode()).encode()
    assert find(path) == ("chat", name)


# -- an application ----------------------------------------------------------------------------------------------------------------


class PaymentNeeded(Exception):
    code = 402


class Chat(Actor):
    async def fetch(self, request: Request) -> Any:
        if request.method == "POST":
            return {"bytes": len(await request.body()), "url": str(request.url), "method": request.method}
        what = request.query_params.get("what")
        if what == "bug":
            raise RuntimeError("the secret")
        if what == "code":
            raise PaymentNeeded("pay first")
        if what == "stream":
            return StreamingResponse(_events(), media_type="text/event-stream")
        return Response(f"{request.method} {request.url.path}", headers={"x-room": str(self.id.name)})

    async def on_connect(self, socket: Socket, request: Request) -> None:
        socket.send(f"{self.id.name} {request.url.path} {request.headers.get('x-user')}")

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send(message)

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        what = request.query_params.get("what")
        if what == "raise":
            raise ValueError("no ticket")
        if what == "response":
            return Response("come back later", 409, {"x-why": "full"})
        if what == "busy":
            raise Overloaded("too many", retry_after_s=7)
        return None


async def _events() -> AsyncIterator[bytes]:
    for number in range(3):
        yield f"data: {number}\n\n".encode()


class Mute(Actor):
    """Neither answers requests nor takes sockets."""


class Front(Service):
    @route("GET", "/socket/{room}")
    async def socket(self, request: Request, room: str) -> Response:
        if request.headers.get("x-user") is None:
            return Response("who are you?", 401)
        return await self.env.CHAT.get(room).connect(request)  # type: ignore[no-any-return]

    @route("GET", "/plain")
    async def plain(self, request: Request) -> Any:
        return StreamingResponse(_events())

    @route("GET", "/parties/{rest:path}")
    async def hidden(self, request: Request, rest: str) -> str:
        return "the service's own"


web = FastAPI()
WEB_ENDS: list[int] = []


@web.websocket("/ws/{name}")
async def web_socket(socket: WebSocket, name: str, x_user: str = Header("nobody")) -> None:
    if name == "closed":
        await socket.close()
        return
    await socket.accept(subprotocol="two" if socket.scope["subprotocols"] else None)
    await socket.send_json([name, x_user, str(socket.url), socket.query_params.get("q")])
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as exc:
        WEB_ENDS.append(exc.code)


@web.get("/parties/chat/x")
def web_parties() -> str:
    return "never"


ACTORS: dict[str, type[Actor]] = {"chat": Chat, "mute": Mute}


def in_app(test: Callable[[TestApp], Coroutine[Any, Any, None]], seeds: Sequence[int] = range(5)) -> None:
    async def scenario() -> None:
        async with TestApp.of(actors=ACTORS, services={"front": Front, "web": web}) as app:
            await test(app)

    for seed in seeds:
        run(scenario(), seed=seed)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_every_method_reaches_fetch_on_every_host(method: str) -> None:
    async def test(app: TestApp) -> None:
        for host in ("localhost", "front.localhost", "10.0.0.1:8700", "nobody.example"):
            answer = await app.client.request(method, f"http://{host}/parties/chat/Lobby/sub?x=1")
            assert (answer.status_code, answer.headers["x-room"]) == (200, "Lobby")
            assert answer.text == ("" if method == "HEAD" else f"{method} /parties/chat/Lobby/sub")

    in_app(test, [1])


def test_bodies_and_streams_pass_as_they_do_for_services() -> None:
    async def test(app: TestApp) -> None:
        answer = await app.client.post("/parties/chat/a%2Fb?q=%20", content=bytes(5_000_000))
        assert answer.json()["bytes"] == 5_000_000
        events = await app.client.get("/parties/chat/a?what=stream")
        assert events.headers["content-type"].startswith("text/event-stream")
        assert events.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert (await app.client.post("/parties/chat/a", content=bytes(33 * 1024 * 1024))).status_code == 413

    in_app(test, [1])


def test_what_is_not_there_is_404_and_a_bug_is_500() -> None:
    async def test(app: TestApp) -> None:
        expected = {
            "/parties/none/a": 404,
            "/parties/chat": 404,
            "/parties/mute/a": 404,
            "/parties/chat/a?what=bug": 500,
            "/parties/chat/a?what=code": 402,
            "/party/a": 404,
            "/parties/chat/%00": 400,
        }
        for path, status in expected.items():
            answer = await app.client.get(path)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert "secret" not in answer.text
        assert (await app.client.get("/parties/chat/a?what=code")).json()["detail"] == "pay first"
        assert (await app.client.get("/party/a")).json()["detail"].startswith("no party is named")

    in_app(test, [1])


def test_a_room_lets_clients_in() -> None:
    async def test(app: TestApp) -> None:
        async with app.connect("/parties/chat/a%2Fb/deeper?_pk=ann", subprotocols=["x", "y"]) as socket:
            assert socket.subprotocol == "x"
            assert await socket.receive() == "a/b /parties/chat/a/b/deeper None"
            await socket.send("hello")
            assert await socket.receive() == "hello"

    in_app(test)


@pytest.mark.parametrize(
    ("path", "status", "header"),
    [
        ("/parties/chat/a?what=raise", 401, None),
        ("/parties/chat/a?what=response", 409, ("x-why", "full")),
        ("/parties/chat/a?what=busy", 503, ("retry-after", "7")),
        ("/parties/none/a", 404, None),
        ("/parties/mute/a", 404, None),
        ("/parties/chat", 404, None),
        ("/parties/chat/%FF", 400, None),
        ("/parties/chat/a?" + "x" * 17_000, 414, None),
        ("/_stead/ready", 404, None),
        ("/nowhere", 404, None),
    ],
)
def test_a_handshake_that_is_refused_gets_a_response(path: str, status: int, header: tuple[str, str] | None) -> None:
    """A problem as for any request, or what the class made; the actor hears nothing."""

    async def test(app: TestApp) -> None:
        with pytest.raises(HandshakeRefused) as refused:
            await app.connect(path)
        assert refused.value.status_code == status
        headers = {name.lower(): value for name, value in refused.value.headers.items()}
        if status == 409:
            assert refused.value.body == b"come back later"
        else:
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-request-id"]
        if header is not None:
            assert headers[header[0]] == header[1]
        assert app.stats()["sockets"] == 0

    in_app(test)


def test_a_service_hands_a_client_to_an_actor() -> None:
    """By answering with what the actor answers, or refuses it with an answer of its own."""

    async def test(app: TestApp) -> None:
        async with app.connect("/socket/den", host="front.localhost", headers={"x-user": "ann"}) as socket:
            assert await socket.receive() == "den /socket/den ann"
            await socket.send(b"\x00")
            assert await socket.receive() == b"\x00"
        for path, status, body in (("/socket/den", 401, b"who are you?"), ("/plain", 200, b"data: 0\n\ndata: 1\n\ndata: 2\n\n")):
            with pytest.raises(HandshakeRefused) as refused:
                await app.connect(path, host="front.localhost")
            assert (refused.value.status_code, refused.value.body) == (status, body)

    in_app(test)


def test_a_mounted_application_has_its_own_sockets() -> None:
    """FastAPI's WebSocket routes work unchanged beside the rooms: its headers, subprotocols, refusals and ends."""

    async def test(app: TestApp) -> None:
        WEB_ENDS.clear()
        async with app.connect("/ws/a?q=1", host="web.localhost", headers={"x-user": "ann"}, subprotocols=["one", "two"]) as socket:
            assert socket.subprotocol == "two"
            assert await socket.receive_json() == ["a", "ann", "ws://web.localhost/ws/a?q=1", "1"]
            for number in range(50):
                await socket.send(str(number))
            assert [await socket.receive() for _ in range(50)] == [str(number) for number in range(50)]
            await socket.close(4005)
        await app.clock.advance(1)
        assert WEB_ENDS == [4005]
        for path in ("/ws/closed", "/none"):
            with pytest.raises(HandshakeRefused) as refused:
                await app.connect(path, host="web.localhost")
            assert refused.value.status_code == 403

    in_app(test)


# -- what operators see ------------------------------------------------------------------------------------------------------------


def application(visibility: Visibility) -> LoadedApplication:
    manifest = Application(
        name="test",
        actors=(schema.Actor(name="chat", visibility=visibility),),
        services=(schema.Service(name="front", visibility=Visibility.PUBLIC, cname="front"),),
    )
    return LoadedApplication(Path.cwd(), manifest, {"chat": Chat}, {"front": Front}, {})


def in_node(
    test: Callable[[Node, list[tuple[Any, ...]]], Coroutine[Any, Any, None]],
    visibility: Visibility = Visibility.PUBLIC,
    is_development: bool = False,
) -> None:
    async def scenario() -> None:
        seen: list[tuple[Any, ...]] = []
        clock = current_clock()
        operating = Operating(on_request=lambda *request: seen.append(request), is_development=is_development)
        node = Node(application(visibility), MemoryEngine(MemoryStore()), Settings(), clock, Chance(1), operating)
        await node.start()
        await test(node, seen)
        await node.close()

    run(scenario())


def dial(node: Node, request: bytes) -> RawClient:
    world = World(node.gateway)
    world.edge = node.edge
    return world.dial(request)


def test_operators_are_told_of_handshakes() -> None:
    """With 101 as soon as the client is in, or with what it was refused with."""

    async def test(node: Node, seen: list[tuple[Any, ...]]) -> None:
        client = dial(node, handshake(b"/parties/chat/a"))
        await until(lambda: bool(client.frames()))
        assert [(*entry[:4], entry[5]) for entry in seen] == [("GET", "localhost", "/parties/chat/a", 101, None)]
        for request, status in (
            (handshake(b"/parties/none/a"), 404),
            (handshake(b"/parties/chat/a", method=b"POST"), 405),
            (handshake(b"/parties/chat/a", HEADERS[:3]), 426),
            (handshake(b"/parties/chat/a", HEADERS[1:]), 400),
            (handshake(b"/parties/chat/a", (*HEADERS, (b"x-long", b"x" * 70_000))), 431),
        ):
            refused = dial(node, request)
            await until(lambda refused=refused: refused.has_eof)  # type: ignore[misc]
            assert refused.head.startswith(b"HTTP/1.1 %d " % status)
            assert b"content-type: application/problem+json" in refused.head
            assert seen[-1][3] == status
            assert isinstance(seen[-1][5], HTTPException)
        client.send(close())
        await until(lambda: not node.edge.connections)

    in_node(test)


def test_only_development_tells_messages() -> None:
    async def told(node: Node, path: str) -> dict[str, Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(node.gateway), base_url="http://x") as client:
            return (await client.get(path)).json()  # type: ignore[no-any-return]

    async def development(node: Node, seen: list[tuple[Any, ...]]) -> None:
        assert "the secret" in (await told(node, "/parties/chat/a?what=bug"))["detail"]

    async def production(node: Node, seen: list[tuple[Any, ...]]) -> None:
        assert "detail" not in await told(node, "/parties/chat/a?what=bug")

    in_node(development, is_development=True)
    in_node(production)


@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.PROTECTED])
def test_what_is_not_public_has_no_address(visibility: Visibility) -> None:
    """Then the paths are the services' own; a service may hand a client to a private actor all the same."""

    async def test(node: Node, seen: list[tuple[Any, ...]]) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(node.gateway), base_url="http://x") as client:
            assert (await client.get("/parties/chat/a")).text == "the service's own"
        client_ = dial(node, handshake(b"/socket/a", (*HEADERS, (b"x-user", b"bob"))))
        await until(lambda: bool(client_.frames()))
        client_.send(text("x"))
        await until(lambda: len(client_.frames()) == 2)
        assert client_.frames() == [("text", "a /socket/a bob"), ("text", "x")]
        client_.send(frame(Opcode.CLOSE))
        await until(lambda: not node.edge.connections)

    in_node(test, visibility)


# -- with receivers of our own -----------------------------------------------------------------------------------------------------


class Full(NoRooms):
    """Lets everybody in, and has no room."""

    def __init__(self) -> None:
        self.opened: list[Recorder] = []
        self.is_full = True

    async def visit(self, actor: ActorId, event: Fetch, *, is_handshake: bool) -> Response:
        if is_handshake:
            assert await event.receive() == {"type": "http.request", "body": b"", "more_body": False}
        return Handover(actor, event.scope, "second")

    def admit_socket(self, handover: Handover) -> None:
        if self.is_full:
            raise Overloaded("no room", retry_after_s=3)

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        assert not self.is_full
        self.opened.append(Recorder(wire))
        return self.opened[-1]


async def no_service(target: str, event: Fetch) -> Response:
    return Handover(ActorId("chat", "a", "chat/a"), event.scope)


def test_a_room_that_is_full_answers_503_before_it_lets_anybody_in() -> None:
    async def scenario() -> None:
        rooms = Full()
        gateway = Gateway(no_service, Directory([Site("api")]), Limits(), Operations(), Parties(rooms, ["chat"]))
        world = World(gateway)
        refused = world.dial(handshake(b"/parties/chat/a"))
        await until(lambda: refused.has_eof)
        assert refused.head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 3" in refused.head
        rooms.is_full = False
        client = world.dial(handshake(b"/parties/chat/a", (*HEADERS, (b"Sec-WebSocket-Protocol", b"first, second"))))
        await until(lambda: bool(client.head))
        assert b"sec-websocket-protocol: second" in client.head
        assert len(rooms.opened) == 1

    run(scenario())


def test_a_plain_request_to_an_address_for_sockets_is_426() -> None:
    async def ask(path: str) -> httpx.Response:
        gateway = Gateway(no_service, Directory([Site("api")]), parties=Parties(Full(), ["chat"]))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://x") as client:
            return await client.get(path)

    for path in ("/parties/chat/a", "/anything"):
        answer = asyncio.run(ask(path))
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
