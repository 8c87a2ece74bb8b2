"""The parties over the virtual network. What the clients of npm make of them is tests/clients' to see."""

from __future__ import annotations

from typing import Any

import httpx
import pycrdt
import pytest

from stead.testing import Disconnected, HandshakeRefused, TestApp, TestSocket, VirtualClock
from stead.yjs import protocol


async def ask(socket: TestSocket, what: str | dict[str, Any]) -> Any:
    await socket.send(what)
    return await socket.receive_json()


async def test_main_echoes_and_obeys(app: TestApp) -> None:
    """Text comes back, commands answer nothing, questions do."""
    async with app.connect("/parties/main/lobby?tags=red", id="ann") as ann, app.connect("/party/lobby", id="bob") as bob:
        assert await ask(ann, "hello") == {"echo": "hello", "id": "ann", "room": "lobby"}
        assert await ask(ann, '{"unknown": 1}') == {"echo": '{"unknown": 1}', "id": "ann", "room": "lobby"}
        await ann.send({"set_state": [1]})
        await ann.send({"put": ["key", "value"]})
        await ann.send({"broadcast": {"to": "others"}, "exclude_self": True})
        await ann.send({"broadcast": "to all"})
        assert await ann.receive() == "to all"
        assert await ask(ann, {"get_state": 1}) == {"state": [1]}
        assert await bob.receive_json() == {"to": "others"}
        assert await bob.receive() == "to all"
        assert await ask(bob, {"get_state": 1}) == {"state": None}
        assert await ask(bob, {"get": "key"}) == {"key": "key", "value": "value"}
        assert await ask(bob, {"tag": "red"}) == {"tag": "red", "ids": ["ann"]}
        assert await ask(bob, {"count": 1}) == {"count": 2}
        assert await ask(bob, {"who": 1}) == {"id": "bob", "uri": "/party/lobby?_pk=bob", "tags": ["bob"]}
        await ann.send(b"\x00\xff")
        assert await ann.receive() == await bob.receive() == b"\x00\xff"
        await ann.send({"close": [4000, "enough"]})
        await ann.wait_closed()
        assert (ann.close_code, ann.close_reason) == (4000, "enough")


async def test_what_throws_leaves_no_trace(app: TestApp) -> None:
    """Neither a value, nor state, nor a message; who watches is told of the error, and later of the end."""
    async with app.connect("/parties/main/lobby?tags=watch", id="watcher") as watcher:
        async with app.connect("/parties/main/lobby", id="ann") as ann:
            await ann.send({"throw": "no"})
            assert await ask(ann, {"get": "thrown"}) == {"key": "thrown", "value": None}
            assert await ask(ann, {"get_state": 1}) == {"state": None}
            assert await watcher.receive_json() == {"failed": "ann", "error": "no"}
        assert await watcher.receive_json() == {"closed": "ann", "code": 1000, "reason": "", "here": ["watcher"]}


async def test_main_greets_and_refuses(app: TestApp, clock: VirtualClock) -> None:
    """A greeting comes before any answer; a refusal is 1011; an alarm reaches everybody."""
    async with app.connect("/parties/main/lobby?greet=1", id="ann") as ann:
        assert await ask(ann, {"alarm_ms": 60_000}) == {"greeting": 1}
        await clock.advance(seconds=60)
        assert await ann.receive_json() == {"alarm": "lobby"}
    refused = await app.connect("/parties/main/lobby?refuse=full")
    with pytest.raises(Disconnected):
        await refused.receive()
    assert (refused.close_code, refused.close_reason) == (1011, "full")


async def test_main_answers_requests(client: httpx.AsyncClient) -> None:
    """With what it was asked, a number, or the error's own status."""
    answer = await client.put("/parties/main/lobby/down?a=1", content="text")
    assert answer.json() == {"method": "PUT", "path": "/parties/main/lobby/down", "query": "a=1", "body": "text", "room": "lobby"}
    assert [(await client.post("/party/lobby/increment")).json() for _ in range(2)] == [{"number": 1}, {"number": 2}]
    teapot = await client.get("/parties/main/lobby/throw?code=418&message=short")
    assert (teapot.status_code, teapot.json()["detail"]) == (418, "short")


async def test_counter_numbers_and_tells(app: TestApp, client: httpx.AsyncClient) -> None:
    """Whoever it hears it from, another party too; and it survives a crash."""
    async with app.connect("/parties/counter/lobby") as counter, app.connect("/parties/p2p/lobby") as asking:
        assert await ask(counter, "one") == {"count": 1, "text": "one"}
        assert await ask(asking, "two") == {"counter": 2}
        assert await counter.receive_json() == {"count": 2, "text": "two"}
    assert (await client.post("/parties/p2p/lobby", content="three")).json() == {"counter": 3}
    await app.crash()
    assert (await client.post("/parties/counter/lobby", content="four")).json() == {"count": 4}
    assert (await client.get("/parties/counter/lobby")).json() == {"count": 4, "texts": ["one", "two", "three", "four"]}


async def test_auth_asks_for_a_token(app: TestApp, client: httpx.AsyncClient) -> None:
    """The same at the door for sockets and for requests; a user's name cannot be brought along."""
    async with app.connect("/parties/auth/lobby?token=ok", headers={"x-user": "eve"}) as ann:
        assert await ask(ann, "hello") == {"echo": "hello", "user": "ann"}
    for query, status, said in (("", 403, "no token"), ("?token=throw", 401, "the token is spent")):
        with pytest.raises(HandshakeRefused) as refused:
            await app.connect(f"/parties/auth/lobby{query}")
        assert (refused.value.status_code, said in refused.value.body.decode()) == (status, True)
        answer = await client.get(f"/parties/auth/lobby{query}")
        assert answer.status_code == status and said in answer.text
    assert (await client.get("/parties/auth/lobby?token=ok", headers={"x-user": "eve"})).json() == {"user": "ann"}


async def test_hib_leaves_memory_and_keeps_its_sockets(app: TestApp, clock: VirtualClock) -> None:
    """A ping is answered without it; a message builds it again, and finds state and tags."""
    async with app.connect("/parties/hib/lobby?tags=red", id="ann") as ann:
        await ann.send({"set_state": "kept"})
        assert (await ask(ann, "hello"))["constructed"] == 1
        await clock.advance(seconds=5)
        assert app.stats()["residents"] == 0
        await ann.send("ping")
        assert await ann.receive() == "pong"
        assert app.stats()["residents"] == 0
        assert (await ask(ann, "hello"))["constructed"] == 2
        assert await ask(ann, {"get_state": 1}) == {"state": "kept"}
        assert await ask(ann, {"tag": "red"}) == {"tag": "red", "ids": ["ann"]}


@pytest.mark.parametrize(("path", "is_taken"), [("/parties/yjs/notes", True), ("/parties/yro/notes?ro=1", False)])
async def test_documents_take_what_they_may(app: TestApp, path: str, is_taken: bool) -> None:
    """An update goes to everybody, its author too, unless the author may only read."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.get("text", type=pycrdt.Text).insert(0, "hello")
    update = protocol.update(doc.get_update())
    async with app.connect(path) as writer:
        await writer.receive()
        await writer.send(update)
        assert (await writer.receive() == update) is is_taken
