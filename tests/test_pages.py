"""The examples on the pages of docs/ are true.

Blocks marked `python` on a page are one module, executed from top to bottom: imports, actors, services. A block marked `python run`
is the body of an async function with `app`, `env`, `client` and `clock` of a fresh `TestApp` of the actors and services above it;
what it asserts must hold.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from stead import Actor, Service
from stead.testing import TestApp, run

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(python(?: run)?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_PAGES = [page for page in PAGES if "\n```python run\n" in page.read_text()]


def blocks(page: Path) -> list[tuple[str, CodeType]]:
    """The Python blocks of a page: how each is marked, and its code, whose lines are those of the page."""
    text = page.read_text()
    compiled = []
    for match in BLOCK.finditer(text):
        source = "\n" * text.count("\n", 0, match.start(2)) + match[2]
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled.append((match[1], compile(source, str(page), "exec", flags=flags, dont_inherit=True)))
    return compiled


def unit_name(cls: type) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"-\1", cls.__name__).lower()


def units_of(module: ModuleType, base: type[Any]) -> dict[str, Any]:
    own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base)]
    return {unit_name(cls): cls for cls in own if cls.__module__ == module.__name__}


async def run_block(module: ModuleType, code: CodeType) -> None:
    actors, services = units_of(module, Actor), units_of(module, Service)
    async with TestApp.of(actors=actors, services=services) as app:
        names = {**vars(module), "app": app, "env": app.env, "client": app.client, "clock": app.clock}
        result = eval(code, names)  # noqa: S307 - a page of ours
        if result is not None:
            await result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_example_is_python(page: Path) -> None:
    """What a page shows as Python compiles; a bare `...` stands for what the page leaves out."""
    blocks(page)


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_run_example_holds(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's examples do what the page says."""
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for mark, code in blocks(page):
        if mark == "python run":
            run(lambda code=code: run_block(module, code))  # type: ignore[misc]
        else:
            exec(code, vars(module))


def test_the_pages_of_what_actors_do_are_run() -> None:
    """The marking is seen: these pages have examples that run."""
    assert {"actors.md", "alarms.md", "errors.md", "storage.md"} <= {page.name for page in RUN_PAGES}


def test_a_wrong_example_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error: an assertion that does not hold fails, and names its line on the page."""
    page = tmp_path / "wrong.md"
    page.write_text("# Title\n\n```python run\nassert await client.get('/') is None\n```\n")
    with pytest.raises(AssertionError) as failure:
        test_every_run_example_holds(page, monkeypatch)
    assert failure.traceback[-1].lineno == 3
