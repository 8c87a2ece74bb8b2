"""What the commands print, and how they fail.

Results go to standard output, everything else to standard error, so that a pipe carries results only. A command that cannot do
what it was asked raises a `SteadError`; `Commands` turns it into one line and a hint, and exit code 1. So it does with a file that
is not for this user, or has no room: that may be any, at any moment.
"""

from __future__ import annotations

import errno
import json
from io import StringIO
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from stead.errors import SteadError
from stead.manifest import ManifestErrors
from stead.redaction import redacted

_AS_WHOM = "run it as the user that the server runs as, with `sudo -u USER` for instance, or correct owner and permissions"
_HINTS = {  # for what may be wrong with any file that a command meets
    errno.EACCES: _AS_WHOM,
    errno.EPERM: _AS_WHOM,
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
}
PIPE_COLUMNS = 1_000  # an id may have as many bytes
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class CommandFailed(SteadError):
    """The command cannot do what it was asked."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}\n  hint: {hint}" if hint else problem)


class Commands(TyperGroup):
    """A group of commands whose failures are messages, not tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SteadError as exc:
            print_failure(exc)
            raise typer.Exit(1) from exc
        except OSError as exc:
            if exc.errno not in _HINTS or exc.filename is None:
                raise
            print_failure(CommandFailed(f"{exc.filename} cannot be used: {exc.strerror}", _HINTS[exc.errno]))
            raise typer.Exit(1) from exc


def print_failure(failure: SteadError) -> None:
    """All that is wrong, on standard error."""
    problems = failure.errors if isinstance(failure, ManifestErrors) else [failure]
    for problem in problems:
        line, _, hint = redacted(str(problem)).partition("\n")
        err.print(f"[bold red]error:[/] {escape(line)}")
        if hint:
            err.print(f"[dim]{escape(hint)}[/]")


def new_table(*columns: str, title: str | None = None) -> Table:
    """A plain table in which nothing is cut off."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=bool(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """As wide as the terminal, or as needed where there is none: what reads a pipe does not want lines broken or filled up."""
    if out.is_terminal:
        out.print(table)
        return
    lines = StringIO()
    Console(file=lines, width=PIPE_COLUMNS, highlight=False).print(table)
    out.print("\n".join(line.rstrip() for line in lines.getvalue().splitlines()), markup=False)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    out.print(redacted(json.dumps(value, indent=2, ensure_ascii=False)), markup=False)
