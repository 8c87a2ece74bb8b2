"""The platform over HTTP: sessions, documents, rooms, notifications."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from stead.clock import sleep
from stead.testing import HandshakeRefused, TestApp, VirtualClock

HOUR_MS = 3_600_000


async def login(client: httpx.AsyncClient, user: str) -> dict[str, str]:
    """The headers that say who asks."""
    answer = await client.post("/login", json={"user": user, "password": "open sesame"})
    assert answer.status_code == 200
    return {"authorization": f"Bearer {answer.json()['token']}"}


async def save(client: httpx.AsyncClient, who: dict[str, str], text: str, based_on: int) -> httpx.Response:
    return await client.put("/documents/plan", headers=who, json={"text": text, "based_on": based_on})


async def test_a_session_ends_by_its_alarm(app: TestApp, client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """Eight hours after the login it is over, and nothing of it is kept."""
    ann = await login(client, "ann")
    me: dict[str, Any] = (await client.get("/me", headers=ann)).json()
    assert me == {"user": "ann", "expires_at": clock.now_ms() + 8 * HOUR_MS}
    await clock.advance(hours=8)
    assert (await client.get("/me", headers=ann)).status_code == 401
    assert (await app.env.USER_SESSION.list()).actors == []


async def test_logging_out_ends_one_session(client: httpx.AsyncClient) -> None:
    """Each login is a session of its own."""
    first, second = await login(client, "ann"), await login(client, "ann")
    assert (await client.post("/logout", headers=first)).status_code == 204
    assert (await client.get("/me", headers=first)).status_code == 401
    assert (await client.get("/me", headers=second)).status_code == 200


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer rubbish", "Bearer user-session/ann", "Bearer document/plan", "Basic eA=="])
async def test_who_has_no_session_is_refused(client: httpx.AsyncClient, token: str) -> None:
    """401, whatever is sent in a token's place."""
    for path in ("/me", "/documents/plan", "/rooms/lobby/messages", "/notifications"):
        assert (await client.get(path, headers={"authorization": token})).status_code == 401


async def test_notifications_are_pushed(app: TestApp, client: httpx.AsyncClient) -> None:
    """Who listens gets what was unread, then each new one at once, also after a crash; without a session there is no socket."""
    ann, bob = await login(client, "ann"), await login(client, "bob")
    await save(client, ann, "one", 0)
    await save(client, bob, "two", 1)
    async with app.connect("/notifications/live", headers=ann) as socket:
        assert (await socket.receive_json())["text"] == "bob saved version 2 of plan"
        await save(client, bob, "three", 2)
        assert await socket.receive_json() == {"id": 2, "author": "platform", "text": "bob saved version 3 of plan"}
    await app.crash()
    async with app.connect("/notifications/live", headers=ann) as socket:
        assert [(await socket.receive_json())["id"] for _ in range(2)] == [1, 2]
    with pytest.raises(HandshakeRefused):
        async with app.connect("/notifications/live"):
            pass


async def test_a_wrong_password_is_refused(client: httpx.AsyncClient) -> None:
    """401 for a wrong one, 400 for none."""
    assert (await client.post("/login", json={"user": "ann", "password": "sesame"})).status_code == 401
    assert (await client.post("/login", json={"user": "ann"})).status_code == 400


@pytest.mark.parametrize("user", ["", "a" * 65, "a/b", "a\0b", "\ud800", 7])
async def test_a_user_has_a_name_that_can_be_shown(client: httpx.AsyncClient, user: object) -> None:
    """Anything else is refused before a session is made."""
    body = json.dumps({"user": user, "password": "open sesame"})
    assert (await client.post("/login", content=body)).status_code == 400


async def test_private_services_have_no_address(client: httpx.AsyncClient) -> None:
    """Whatever host is asked for, it is the api that answers."""
    for host in ("auth.localhost", "notifications.localhost", "collab.localhost"):
        assert (await client.get("/session", headers={"host": host})).status_code == 404


async def test_a_document_keeps_its_versions(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """Each save is a version; old ones stay readable."""
    ann, began_ms = await login(client, "ann"), clock.now_ms()
    assert (await save(client, ann, "first", 0)).json() == {"version": 1}
    await clock.advance(minutes=1)
    assert (await save(client, ann, "second", 1)).json() == {"version": 2}
    latest = {"version": 2, "author": "ann", "saved_at": began_ms + 60_000, "text": "second"}
    assert (await client.get("/documents/plan", headers=ann)).json() == {**latest, "versions": 2, "words": None}
    assert (await client.get("/documents/plan/versions/1", headers=ann)).json()["text"] == "first"
    history = (await client.get("/documents/plan/versions", headers=ann)).json()["versions"]
    assert [entry["version"] for entry in history] == [2, 1]
    for path in ("/documents/other", "/documents/plan/versions/3"):
        assert (await client.get(path, headers=ann)).status_code == 404


async def test_nobody_overwrites_what_they_have_not_read(client: httpx.AsyncClient) -> None:
    """A save based on an older version is a conflict that names the latest one."""
    ann, bob = await login(client, "ann"), await login(client, "bob")
    await save(client, ann, "ann's", 0)
    conflict = await save(client, bob, "bob's", 0)
    assert conflict.status_code == 409
    assert "version 1 is the latest" in conflict.json()["detail"]
    assert (await save(client, bob, "both", 1)).json() == {"version": 2}
    assert (await save(client, bob, "nonsense", True)).status_code == 400


async def test_authors_hear_of_others_changes(client: httpx.AsyncClient) -> None:
    """Not of their own; and what was read is gone."""
    ann, bob = await login(client, "ann"), await login(client, "bob")
    await save(client, ann, "ann's", 0)
    await save(client, bob, "both", 1)
    notice = {"notifications": ["bob saved version 2 of plan"]}
    assert (await client.get("/notifications", headers=ann)).json() == notice
    assert (await client.get("/notifications", headers=bob)).json() == {"notifications": []}
    assert (await client.delete("/notifications", headers=ann)).status_code == 204
    assert (await client.get("/notifications", headers=ann)).json() == {"notifications": []}


async def test_whoever_hears_of_a_change_gets_a_mail(client: httpx.AsyncClient) -> None:
    """Through the queue, once."""
    ann, bob = await login(client, "ann"), await login(client, "bob")
    await save(client, ann, "ann's", 0)
    await save(client, bob, "both", 1)
    await sleep(30)
    mails = (await client.get("/outbox", headers=ann)).json()["mails"]
    assert mails == [{"to": "ann", "text": "bob saved version 2 of plan"}]


async def test_a_room_keeps_its_last_messages(app: TestApp, client: httpx.AsyncClient) -> None:
    """Two hundred of them, in order, across a crash."""
    ann = await login(client, "ann")
    room = app.env.CHAT_ROOM.get("lobby")
    for number in range(1, 202):
        await room.post("bob", f"m{number}")
    await app.crash()
    answer = await client.post("/rooms/lobby/messages", headers=ann, json={"text": "hello"})
    assert answer.json() == {"id": 202}
    messages = (await client.get("/rooms/lobby/messages", headers=ann)).json()["messages"]
    assert [message["id"] for message in messages] == list(range(3, 203))
    latest = await client.get("/rooms/lobby/messages", headers=ann, params={"after": 201})
    assert latest.json() == {"messages": [{"id": 202, "author": "ann", "text": "hello"}]}
    assert (await client.get("/rooms/lobby/messages", headers=ann, params={"after": "x"})).status_code == 400


async def test_who_listens_to_a_room_hears_it(app: TestApp, client: httpx.AsyncClient) -> None:
    """What was said before, then what is said; without a session there is nothing to hear."""
    ann = await login(client, "ann")
    await client.post("/rooms/lobby/messages", headers=ann, json={"text": "one"})
    async with app.connect("/rooms/lobby/live", headers=ann) as socket:
        assert await socket.receive_json() == {"id": 1, "author": "ann", "text": "one"}
        await client.post("/rooms/lobby/messages", headers=ann, json={"text": "two"})
        assert (await socket.receive_json())["text"] == "two"
    with pytest.raises(HandshakeRefused):
        async with app.connect("/rooms/lobby/live"):
            pass


@pytest.mark.parametrize("room", ["@ann", "%40ann"])
async def test_notifications_are_no_room_for_others(app: TestApp, client: httpx.AsyncClient, room: str) -> None:
    """Nobody reads them, writes to them or listens to them by the room's name."""
    bob = await login(client, "bob")
    assert (await client.get(f"/rooms/{room}/messages", headers=bob)).status_code == 404
    assert (await client.post(f"/rooms/{room}/messages", headers=bob, json={"text": "spam"})).status_code == 404
    with pytest.raises(HandshakeRefused):
        async with app.connect(f"/rooms/{room}/live", headers=bob):
            pass


async def test_the_words_of_a_file_are_counted(app: TestApp, client: httpx.AsyncClient) -> None:
    """Once it has arrived, whoever put it into the bucket."""
    ann = await login(client, "ann")
    assert (await client.post("/documents/plan/upload", headers=ann, content=b"one two three")).json()["size"] == 13
    await sleep(10)
    assert (await client.get("/documents/plan", headers=ann)).json() == {"versions": 0, "words": 3}
    await save(client, ann, "text", 0)
    await app.env.DOCUMENTS.put("plan", "four\nfive")
    await app.crash()
    await sleep(30)
    found = (await client.get("/documents/plan", headers=ann)).json()
    assert (found["words"], found["versions"], found["text"]) == (2, 1, "text")
