"""`stead new`: an application to begin with."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stead.cli.console import CommandFailed, out
from stead.ids import UNIT_PATTERN

TEMPLATES = Path(__file__).parent / "templates"
NAME_CHARS_MAX = 63  # one label of a domain
_SPELLED = {"gitignore": ".gitignore"}  # packaging leaves out files that begin with a dot


class Template(StrEnum):
    """A folder of `cli/templates`."""

    CART = "cart"
    CHAT = "chat"
    API = "api"


def new(
    name: Annotated[str, typer.Argument(help="The application's name, and the directory that is made for it.")],
    template: Annotated[Template, typer.Option(help="What to begin with.")] = Template.CART,
) -> None:
    """Make an application that runs and whose tests pass."""
    directory = Path(name)
    if not UNIT_PATTERN.fullmatch(directory.name) or len(directory.name) > NAME_CHARS_MAX:
        hint = f"use lower-case letters, digits, - and _, at most {NAME_CHARS_MAX}, beginning with a letter or digit: my-shop"
        raise CommandFailed(f"{directory.name!r} is no name for an application", hint)
    if directory.exists():
        raise CommandFailed(f"{directory} exists already", "choose another name, or remove it first")
    try:
        copied = copy_template(TEMPLATES / template.value, directory)
    except OSError as exc:
        raise CommandFailed(
            f"{directory} cannot be made: {exc.strerror or exc}", "choose a directory that you may write to"
        ) from exc
    out.print(f"made {directory} from the template {template.value}:", markup=False)
    for path in copied:
        out.print(f"  {path}", markup=False)
    out.print(f"\nnext:\n  cd {directory}\n  stead dev\n  pip install pytest && pytest", markup=False)


def copy_template(source: Path, directory: Path) -> list[Path]:
    """Copy a template into the new `directory` under its name, and say which files that made."""
    copied = []
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(source)
            target = directory / relative.with_name(_SPELLED.get(relative.name, relative.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text(encoding="utf-8").replace("{{name}}", directory.name), encoding="utf-8")
            copied.append(target)
    return copied
