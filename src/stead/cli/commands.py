"""The `stead` command and its parts."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer

from stead.cli.console import Commands

COMMANDS = (
    "dev",
    "serve",
    "check",
    "new",
    "actors",
    "nodes",
    "bucket",
    "tasks",
    "queues",
    "db",
    "secrets",
    "migrate-engine",
    "doctor",
)
"""Each a module beside this one (with `_` for `-`), which has a group `app` or a function of its own name."""


def module_of(command: str) -> str:
    return f"stead.cli.{command.replace('-', '_')}"


class Stead(Commands):
    """The whole command. A part is imported when it is asked for, so that a server starts without what only others need."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(module_of(cmd_name))
        group = getattr(module, "app", None)
        command: Any
        if group is not None:
            command = typer.main.get_group(group)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command()(getattr(module, cmd_name.replace("-", "_")))
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=Stead,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Stateful serverless for Python: classes whose named instances remember.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stead {version('stead')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Stateful serverless for Python: classes whose named instances remember."""
