"""The example `chat` in a real browser, with the real partysocket: several windows talk in one room."""

from __future__ import annotations

import signal
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import PAGE_WAIT_MS, ROOT, Packages, Windows
from tests.process.conftest import Serve

CHAT = ROOT / "examples" / "chat"
expect.set_options(timeout=PAGE_WAIT_MS)


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def test_three_windows_talk_through_a_restart(windows: Windows, serve: Serve, packages: Packages, tmp_path: Path) -> None:
    """What one says shows in all, with who came and went; after a kill of the server the history is there and talk goes on, also
    what was written while it was away."""
    packages(CHAT)
    data = tmp_path / "data"
    with serve(CHAT, data) as server:
        address = f"http://localhost:{server.port}/?room=lobby&name="
        ann, bob = windows(f"{address}ann"), windows(f"{address}bob")
        expect(ann.locator("#status")).to_have_text("2 are here")
        say(ann, "hello <b>bob</b>")
        say(bob, "hello ann")
        for page in (ann, bob):
            expect(page.locator(".message p")).to_have_text(["hello <b>bob</b>", "hello ann"])
        expect(ann.locator(".message.own p")).to_have_text(["hello <b>bob</b>"])
        eve = windows(f"http://localhost:{server.port}/?room=elsewhere&name=eve")
        expect(eve.locator("#status")).to_have_text("only you are here")
        expect(eve.locator(".message")).to_have_count(0)
        port = server.port
        ann.screenshot(path=tmp_path / "chat.png")
        server.end(signal.SIGKILL)
    expect(ann.locator("#status")).to_have_text("reconnecting…")
    say(ann, "anybody?")
    with serve(CHAT, data, "--port", str(port)):
        for page in (ann, bob):
            expect(page.locator(".message p")).to_have_text(["hello <b>bob</b>", "hello ann", "anybody?"])
        bob.close()
        expect(ann.locator(".notice").last).to_have_text("bob left")
        expect(ann.locator("#status")).to_have_text("only you are here")
