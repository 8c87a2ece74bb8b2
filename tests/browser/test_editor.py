"""The example `editor` in a real browser, with the real Yjs and y-websocket: two windows write one text."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import PAGE_WAIT_MS, ROOT, Packages, Windows
from tests.process.conftest import Serve

EDITOR = ROOT / "examples" / "editor"
expect.set_options(timeout=PAGE_WAIT_MS)


def connected(page: Page) -> Page:
    expect(page.locator("#status")).to_have_text("connected")
    expect(page.locator("#text")).to_be_enabled()
    return page


def test_two_windows_write_one_text_through_a_restart(windows: Windows, serve: Serve, packages: Packages, tmp_path: Path) -> None:
    """What is typed in one shows in the other, with the writer's name at the caret; both survive a kill of the server, during which
    both go on writing; who opens the document later sees all of it."""
    packages(EDITOR)
    data = tmp_path / "data"
    with serve(EDITOR, data) as server:
        port = server.port
        address = f"http://web.localhost:{port}/?doc=minutes&name="
        ann, bob = connected(windows(f"{address}Ann")), connected(windows(f"{address}Bob"))
        ann.locator("#text").press_sequentially("Minutes of the meeting\n\nPresent: Ann, Bob\n")
        expect(bob.locator("#text")).to_have_value("Minutes of the meeting\n\nPresent: Ann, Bob\n")
        expect(bob.locator("#people li")).to_have_text([re.compile("Ann|Bob")] * 2)
        expect(bob.locator("#marks .caret b")).to_have_text("Ann")
        bob.locator("#text").focus()
        bob.keyboard.press("Control+End")
        bob.keyboard.type("Apologies: none 🙂")
        expect(ann.locator("#text")).to_have_value(re.compile("Apologies: none 🙂$"))
        ann.keyboard.press("Control+Home")
        ann.keyboard.press("Shift+End")
        expect(bob.locator("#marks .selected")).to_have_text("Minutes of the meeting")
        bob.screenshot(path=tmp_path / "editor.png")
        server.end(signal.SIGKILL)
    expect(bob.locator("#status")).to_have_text("reconnecting…")
    bob.keyboard.type("\nBob was offline.")
    ann.keyboard.press("ArrowRight")
    ann.keyboard.type(" of May")
    with serve(EDITOR, data, "--port", str(port)):
        text = "Minutes of the meeting of May\n\nPresent: Ann, Bob\nApologies: none 🙂\nBob was offline."
        for page in (ann, bob, connected(windows(f"{address}Cleo"))):
            expect(page.locator("#text")).to_have_value(text)
            expect(page.locator("#people li")).to_have_count(3)
        cleo = connected(windows(f"{address}Dora"))
        expect(ann.locator("#people li")).to_have_count(4)
        cleo.close()
        expect(ann.locator("#people li")).to_have_count(3)
