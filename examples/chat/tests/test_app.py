"""Chat rooms as a client sees them: history, messages in order, who comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stead.clock import sleep
from stead.testing import TestApp, TestSocket

MANIFEST = Path(__file__).parent.parent / "stead.manifest"
pytestmark = pytest.mark.usefixtures("clock")


def room(name: str, user: str) -> str:
    return f"/parties/chat-room/{name}?name={user}"


async def said(socket: TestSocket) -> Any:
    """The next message, without what changes from run to run."""
    message = await socket.receive_json()
    message.pop("at", None)
    return message


async def test_everybody_hears_everything_in_one_order() -> None:
    """Joining, talking and leaving, with counts; a room is not another."""
    async with TestApp(MANIFEST) as app:
        ann = await app.connect(room("lobby", "ann"))
        assert await said(ann) == {"type": "history", "messages": [], "count": 1}
        bob = await app.connect(room("lobby", "bob"))
        assert await said(ann) == {"type": "join", "name": "bob", "count": 2}
        assert (await said(bob))["count"] == 2
        async with app.connect(room("elsewhere", "eve")) as eve:
            assert await said(eve) == {"type": "history", "messages": [], "count": 1}
            await asyncio.gather(*(socket.send({"text": str(number)}) for number in range(5) for socket in (ann, bob)))
            heard = [[await said(socket) for _ in range(10)] for socket in (ann, bob)]
            assert heard[0] == heard[1]
            assert [message["id"] for message in heard[0]] == list(range(1, 11))
        await bob.close()
        assert await said(ann) == {"type": "leave", "name": "bob", "count": 1}
        await ann.close()


async def test_history_is_durable_and_bounded() -> None:
    """The last 200, after hibernation and a crash, over HTTP and for who joins."""
    async with TestApp(MANIFEST) as app:
        async with app.connect(room("lobby", "ann")) as ann:
            await said(ann)
            for number in range(203):
                await ann.send({"text": str(number)})
            for _ in range(203):
                await said(ann)
        await sleep(60)
        await app.crash()
        history = (await app.client.get("/parties/chat-room/lobby/history")).json()
        assert [message["text"] for message in history["messages"]] == [str(number) for number in range(3, 203)]
        async with app.connect(room("lobby", "bob")) as bob:
            assert (await said(bob))["messages"] == history["messages"]


async def test_what_is_no_message_is_said_to_its_sender_only() -> None:
    """Malformed, empty and far too long ones; the room goes on."""
    async with TestApp(MANIFEST) as app, app.connect(room("lobby", "")) as socket:
        assert (await said(socket))["count"] == 1
        wrong: list[Any] = [
            "hello",
            b"\xff\x00",
            "[1]",
            {"text": ""},
            {"text": "  "},
            {"text": "x" * 2_001},
            {"text": 5},
            "[" * 9_999,
        ]
        for message in wrong:
            await socket.send(message)
            assert (await said(socket))["type"] == "error"
        await socket.send({"text": "fine"})
        assert await said(socket) == {"type": "message", "id": 1, "name": "somebody", "text": "fine"}
        assert (await app.client.post("/parties/chat-room/lobby/history")).status_code == 404


async def test_the_page_and_its_parts_are_served() -> None:
    """The page, its script and style; of partysocket only what it needs."""
    async with TestApp(MANIFEST) as app:
        for path, kind in {"/": "text/html", "/chat.js": "text/javascript", "/chat.css": "text/css"}.items():
            answer = await app.client.get(path)
            assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert (await app.client.get("/partysocket/react.js")).status_code == 404
        assert (await app.client.get("/partysocket/..%2findex.js")).status_code == 404
