"""The `stead` command: its groups and what they share."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from stead.cli import actors, bucket, db, queues, secrets, tasks
from stead.cli.check import check
from stead.cli.console import Commands
from stead.cli.dev import dev
from stead.cli.new import new
from stead.cli.serve import serve

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Stateful serverless for Python: classes whose named instances remember.",
)
for command in (dev, serve, check, new):
    app.command()(command)
app.add_typer(actors.app, name="actors")
app.add_typer(bucket.app, name="bucket")
app.add_typer(tasks.app, name="tasks")
app.add_typer(queues.app, name="queues")
app.add_typer(db.app, name="db")
app.add_typer(secrets.app, name="secrets")


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
