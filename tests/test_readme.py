"""A newcomer's first minute works: what README.md shows runs, and the commands it names exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from stead.cli import app as stead_command
from stead.cli.commands import COMMANDS
from stead.cli.new import TEMPLATES
from stead.testing import TestApp, run

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/stead.manifest"))
COMMAND = re.compile(r"(?:^|`|&& )((?:make|stead) [^#`&\n]+)", re.MULTILINE)


def shown(kind: str, text: str = TEXT) -> list[str]:
    return [match[2] for match in BLOCK.finditer(text) if match[1] == kind]


def missing(text: str) -> list[str]:
    """What a page names and is not there: targets of make, commands of stead, examples, templates."""
    group: Any = typer.main.get_command(stead_command)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for command in COMMAND.findall(text):
        program, word, *rest = command.split()
        if word not in (targets if program == "make" else COMMANDS):
            wrong.append(command)
        if word == "actors" and rest and rest[0] not in group.get_command(None, "actors").commands:
            wrong.append(command)
    wrong += [place for place in re.findall(r"examples/(\w+)", text) if ROOT / "examples" / place not in EXAMPLES]
    wrong += [name for name in re.findall(r"--template (\w+)", text) if not (TEMPLATES / name).is_dir()]
    return wrong


def test_the_example_runs(tmp_path: Path) -> None:
    """The manifest and the module are an application, and the test shown for them passes, whatever the schedule."""
    module, test, _ = shown("python")
    (tmp_path / "stead.manifest").write_text(shown("manifest")[0])
    (tmp_path / "app.py").write_text(module)
    names: dict[str, Callable[..., Awaitable[None]]] = {}
    exec(test, names)

    async def main() -> None:
        async with TestApp(tmp_path) as app:
            await names["test_a_guestbook_forgets_after_a_day"](app, app.client, app.clock)

    for seed in range(5):
        run(main, seed=seed)


def test_the_room_works() -> None:
    """What is said is heard by all, and told to who comes later, also after hibernation and a crash."""
    module = sys.modules["readme_room"] = ModuleType("readme_room")  # where annotations are looked up
    exec(shown("python")[2], vars(module))

    async def main() -> None:
        async with TestApp.of(actors={"chat-room": module.ChatRoom}) as app:
            address = "/parties/chat-room/lobby"
            async with app.connect(address) as ann, app.connect(address) as bob:
                await app.clock.advance(20)
                await ann.send("hello")
                assert [await ann.receive_json(), await ann.receive(), await bob.receive_json(), await bob.receive()] == [
                    {"history": []},
                    "hello",
                    {"history": []},
                    "hello",
                ]
            await app.crash()
            async with app.connect(address) as eve:
                assert await eve.receive_json() == {"history": ["hello"]}

    run(main)


def test_the_curls_work() -> None:
    """What the first minute's requests send, the example that make run serves takes."""
    requests = re.findall(r"^curl (?:-d '(.+)' )?localhost:8700(/\S+)$", TEXT, re.MULTILINE)
    assert requests

    async def main() -> None:
        async with TestApp(ROOT / "examples" / "shopping_cart") as app:
            for body, path in requests:
                answer = await (app.client.post(path, content=body) if body else app.client.get(path))
                assert answer.status_code == 200, answer.text
                assert answer.json()

    assert "EXAMPLE ?= examples/shopping_cart\n" in (ROOT / "Makefile").read_text()
    run(main)


@pytest.mark.parametrize("page", ["README.md", *(f"examples/{place.name}/README.md" for place in EXAMPLES)])
def test_what_is_named_exists(page: str) -> None:
    """The commands, examples and templates of the README and of each example's."""
    assert missing((ROOT / page).read_text()) == []


def test_what_does_not_exist_is_found() -> None:
    """The planted errors: a target, a command, an example and a template that are not there."""
    assert missing("`make haste` and\nstead fly .\nstead actors fly\nexamples/moon --template moon") == [
        "make haste",
        "stead fly .",
        "stead actors fly",
        "moon",
        "moon",
    ]


def test_every_example_is_explained() -> None:
    """Each example has a page and tests."""
    assert EXAMPLES
    for place in EXAMPLES:
        assert (place / "README.md").is_file()
        assert list((place / "tests").glob("test_*.py"))
