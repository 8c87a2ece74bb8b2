"""The documents as a client sees them, and what the page loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycrdt
import pytest

from stead.testing import TestApp
from stead.yjs import protocol

MANIFEST = Path(__file__).parent.parent / "stead.manifest"
pytestmark = pytest.mark.usefixtures("clock")


async def test_a_text_is_what_its_writers_wrote() -> None:
    """What a client writes is told to all, served as text, and there after a crash; another document knows nothing of it."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.get("text", type=pycrdt.Text).insert(0, "Dear all")
    update = protocol.update(doc.get_update())
    async with TestApp(MANIFEST) as app:
        async with app.connect("/parties/document/notes") as one, app.connect("/parties/document/notes") as two:
            await one.receive()
            await two.receive()
            await one.send(update)
            assert await one.receive() == await two.receive() == update
        await app.crash()
        assert (await app.client.get("/parties/document/notes")).text == "Dear all"
        assert (await app.client.get("/parties/document/other")).text == ""
        assert (await app.client.delete("/parties/document/notes")).status_code == 405


async def test_only_the_pages_files_are_served() -> None:
    """The page's parts have their types; nothing outside their folders is there."""
    async with TestApp(MANIFEST) as app:
        script = await app.client.get("/web/editor.js", headers={"host": "web"})
        assert (script.status_code, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        for path in ("/web/none.js", "/web/..%2Fapp.py", "/npm/..%2Fapp.py", "/npm/yjs/package.json"):
            assert (await app.client.get(path, headers={"host": "web"})).status_code == 404
