"""The fixtures `app`, `client` and `clock` come with Stead: the whole application in memory, with a clock that tests move."""

import httpx

from stead.testing import TestApp


async def test_a_note_is_read_as_written(client: httpx.AsyncClient) -> None:
    assert (await client.put("/notes/shopping", content="tea")).json() == {"version": 1}
    assert (await client.get("/notes/shopping")).json() == {"text": "tea", "version": 1}
    assert (await client.get("/")).json() == {"notes": ["shopping"]}


async def test_an_unknown_note_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/notes/nobody")).status_code == 404


async def test_a_note_survives_its_instance(app: TestApp) -> None:
    note = app.env.NOTE.get("shopping")
    await note.write("tea")
    await app.evict(note)
    assert (await note.read())["text"] == "tea"
