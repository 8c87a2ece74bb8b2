"""A real browser for the examples' pages: headless Chromium, each test with windows of its own.

    def test_…(windows: Windows, serve: Serve, packages: Packages, tmp_path: Path) -> None:
        packages("examples/chat")
        with serve(CHAT, tmp_path / "data") as server:
            page = windows(f"http://web.localhost:{server.port}/")

A machine without Chromium or without an example's npm packages skips; in CI that is a failure.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.lacking import lack
from tests.process.conftest import Serve, serving

ROOT = Path(__file__).parents[2]
PAGE_WAIT_MS = 30_000  # for whatever a page is waited for: many times what it takes, so that a loaded machine is no failure
_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Windows(Protocol):
    """Opens a window on an address. Each shares nothing with the others: no storage, no channel but the server."""

    def __call__(self, url: str) -> Page: ...


class Packages(Protocol):
    """Sees to it that the npm packages of an example are installed."""

    def __call__(self, example: Path) -> None: ...


@pytest.fixture(scope="session")
def serve() -> Serve:
    return serving


@pytest.fixture(scope="session")
def packages() -> Packages:
    def check(example: Path) -> None:
        if not (example / "node_modules").is_dir():
            lack(f"npm packages are missing (run `npm ci` in {example.relative_to(ROOT)})")

    return check


@pytest.fixture(scope="module")  # while it lives its thread runs a loop, which tests of other modules must not find
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        lack("Chromium is not installed")
    # In a container there is neither the sandbox's privilege nor much of /dev/shm; only the examples' own pages are visited.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]) as started,
    ):
        yield started


@pytest.fixture
def windows(browser: Browser) -> Iterator[Windows]:
    """Open windows. What a page logs as an error, or raises, fails the test at its end."""
    errors: list[str] = []
    opened: list[Page] = []

    def window(url: str) -> Page:
        page = browser.new_page(viewport={"width": 900, "height": 640})
        page.set_default_timeout(PAGE_WAIT_MS)
        page.on("pageerror", lambda error: errors.append(f"{url}: {error}"))
        opened.append(page)
        page.goto(url)
        return page

    yield window
    for page in opened:
        page.close()
    assert errors == []
