"""The fixtures `app`, `client` and `clock` come with Stead: the whole application in memory, with a clock that tests move."""

import httpx

from stead.testing import TestApp


async def test_a_room_remembers_what_was_said(client: httpx.AsyncClient) -> None:
    await client.post("/rooms/lobby/messages", json={"author": "ann", "text": "hello"})
    await client.post("/rooms/lobby/messages", json={"author": "bob", "text": "hi"})
    answer = await client.get("/rooms/lobby/messages", params={"after": 1})
    assert answer.json() == {"messages": [{"id": 2, "author": "bob", "text": "hi"}]}


async def test_rooms_are_apart(client: httpx.AsyncClient) -> None:
    await client.post("/rooms/lobby/messages", json={"author": "ann", "text": "hello"})
    assert (await client.get("/rooms/kitchen/messages")).json() == {"messages": []}


async def test_a_message_without_text_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/rooms/lobby/messages", json={"author": "ann"})).status_code == 400


async def test_history_survives_a_crash(app: TestApp) -> None:
    await app.env.CHAT_ROOM.get("lobby").post("ann", "hello")
    await app.crash()
    assert len(await app.env.CHAT_ROOM.get("lobby").history()) == 1
