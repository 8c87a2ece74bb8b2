"""The fixtures `app`, `client` and `clock` come with Stead: the whole application in memory, with a clock that tests move."""

import httpx

from stead.testing import TestApp

LOBBY = "/parties/chat-room/lobby?name="


async def test_everybody_hears_what_is_said(app: TestApp) -> None:
    async with app.connect(LOBBY + "ann") as ann, app.connect(LOBBY + "bob") as bob:
        await ann.send({"text": "hello"})
        for socket in (ann, bob):
            assert await socket.receive_json() == {"author": "ann", "text": "hello"}


async def test_rooms_are_apart(app: TestApp, client: httpx.AsyncClient) -> None:
    async with app.connect(LOBBY + "ann") as ann:
        await ann.send({"text": "hello"})
        await ann.receive()
    assert (await client.get("/rooms/kitchen/history")).json() == []


async def test_what_is_no_message_changes_nothing(app: TestApp, client: httpx.AsyncClient) -> None:
    async with app.connect(LOBBY + "ann") as ann:
        for message in ("hello", "[]", '{"text": 3}', '{"text": ""}'):
            await ann.send(message)
        await ann.send({"text": "fine"})
        assert (await ann.receive_json())["text"] == "fine"
    assert len((await client.get("/rooms/lobby/history")).json()) == 1


async def test_history_survives_a_crash(app: TestApp) -> None:
    async with app.connect(LOBBY + "ann") as ann:
        await ann.send({"text": "hello"})
        await ann.receive()
    await app.crash()
    async with app.connect(LOBBY + "bob") as bob:
        assert await bob.receive_json() == {"author": "ann", "text": "hello"}
