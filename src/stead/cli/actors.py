"""`stead actors`: looking at the actors of a data directory or of PostgreSQL, whether a server runs on it or not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from stead.admin import (
    LIST_ACTORS_MAX,
    ActorLine,
    ActorView,
    EngineOperator,
    Operator,
    RemoteOperator,
    ValueLine,
    find_server,
    remote_operator,
)
from stead.cli.console import CommandFailed, Commands, err, new_table, out, print_json, print_table
from stead.cli.engines import open_shared
from stead.cli.options import Engine, Json
from stead.clock import SystemClock
from stead.ids import ActorId, Chance, parse_id
from stead.node import SQLITE, ClusterSettings
from stead.storage.sqlite import open_data

T = TypeVar("T")
ROWS_SHOWN = 100  # of a table on a terminal, unless --limit says otherwise
VALUE_CHARS_SHOWN = 100

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Look at actors, export, move and delete them.")

Data = Annotated[Path, typer.Option(envvar="STEAD_DATA", help="The data directory.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The actor's id: unit/name, or unit~ and 32 digits.")]


@app.command("list")
def list_actors(
    unit: Annotated[str | None, typer.Option(help="Actors of this unit only.")] = None,
    prefix: Annotated[str, typer.Option(help="Actors whose name begins with this.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Actors to show at most.")] = ROWS_SHOWN,
    all_: Annotated[bool, typer.Option("--all", help="Show every actor.")] = False,
    cursor: Annotated[str, typer.Option(help="Go on behind this id.")] = "",
    data: Data = Path(".stead"),
    engine: Engine = SQLITE,
    json: Json = False,
) -> None:
    """List the actors that hold anything."""
    lines, following = _run(data, engine, lambda operator: _collect(operator, unit, prefix, cursor, None if all_ else limit))
    if json:
        print_json({"actors": [msgspec.to_builtins(line) for line in lines], "cursor": following})
        return
    table = new_table("actor", "bytes", "commits", "created (UTC)", "last active (UTC)")
    table.columns[1].justify = table.columns[2].justify = "right"
    for line in lines:
        table.add_row(
            escape(line.id), f"{line.size_bytes:,}", f"{line.commits:,}", _moment(line.created_ms), _moment(line.active_ms)
        )
    print_table(table)
    if following is not None:
        err.print(f"there are more: --all shows them, --cursor {escape(repr(following))} goes on", style="dim")


@app.command()
def show(actor: Id, data: Data = Path(".stead"), engine: Engine = SQLITE, json: Json = False) -> None:
    """Show what an actor holds."""
    view = _run(data, engine, lambda operator: operator.show(parse_id(actor)))
    if json:
        print_json(msgspec.to_builtins(view))
        return
    line = view.line
    out.print(f"{line.id}: {line.size_bytes:,} bytes after {line.commits:,} commits", markup=False)
    out.print(f"created {_moment(line.created_ms)} UTC, last active {_moment(line.active_ms)} UTC", markup=False)
    _print_values("keys", view.keys)
    _print_values("durable attributes", view.attributes)
    if view.alarms:
        print_table(alarms_table(view.alarms))
    _print_sql(view)
    if view.more:
        err.print("there is more than is shown: `stead actors export` writes it all", style="dim")


@app.command()
def export(
    actor: Id,
    file: Annotated[Path, typer.Argument(metavar="FILE.sqlite", help="The SQLite file to make.")],
    data: Data = Path(".stead"),
    engine: Engine = SQLITE,
    json: Json = False,
) -> None:
    """Write an actor to a normal SQLite file: its own tables, and its keys as the table stead_keys."""
    identity = parse_id(actor)
    _run(data, engine, lambda operator: _export(operator, identity, file))
    if json:
        print_json({"actor": identity.text, "file": str(file), "size_bytes": file.stat().st_size})
    else:
        out.print(f"wrote {identity.text} to {file}, {file.stat().st_size:,} bytes", markup=False)


@app.command()
def delete(
    actor: Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: Data = Path(".stead"),
    engine: Engine = SQLITE,
    json: Json = False,
) -> None:
    """Erase everything an actor holds."""
    identity = parse_id(actor)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandFailed(f"deleting {identity.text} needs a yes, and nobody is here to ask", "add --yes")
        typer.confirm(f"Erase everything {identity.text} holds?", abort=True, err=True)
    _run(data, engine, lambda operator: operator.delete(identity), writes=True)
    if json:
        print_json({"deleted": identity.text})
    else:
        out.print(f"deleted {identity.text}", markup=False)


@app.command()
def move(
    actor: Id,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's name, as `stead nodes list` shows it.")],
    data: Data = Path(".stead"),
    json: Json = False,
) -> None:
    """Give an actor to another node of the cluster. Nobody who calls it sees an error."""
    identity = parse_id(actor)

    async def work() -> bool:
        async with running_operator(data) as operator:
            return await operator.move(identity, node)

    moved = asyncio.run(work())
    if json:
        print_json({"actor": identity.text, "node": node, "moved": moved})
    elif moved:
        out.print(f"moved {identity.text} to {node}", markup=False)
    else:
        out.print(f"no node has {identity.text} now: who is asked for it next takes it", markup=False)


def _run(data: Path, engine: str, work: Callable[[Operator], Awaitable[T]], *, writes: bool = False) -> T:
    async def run() -> T:
        async with operator_of(data, engine, writes=writes) as operator:
            return await work(operator)

    return asyncio.run(run())


@asynccontextmanager
async def operator_of(data: Path, engine: str, *, writes: bool) -> AsyncIterator[Operator]:
    """The operator of the server that runs on `data`; where none does, of the data directory itself.

    What nodes share is read without asking any of them. It is written by a node only.
    """
    if ClusterSettings(engine=engine).is_shared:
        async with running_operator(data) if writes else _reader(engine) as shared:
            yield shared
        return
    if not data.is_dir():
        hint = "name it with --data, or go to the application's directory; `stead dev` makes it"
        raise CommandFailed(f"there is no data directory {data}", hint)
    async with found_operator(data) as remote:
        if remote is not None:
            yield remote
            return
    clock = SystemClock()
    own = open_data(data, clock, read_only=not writes)
    try:
        yield EngineOperator(own, clock)
    finally:
        await own.close()


@asynccontextmanager
async def _reader(address: str) -> AsyncIterator[Operator]:
    """The operator of an engine that nodes share, to look at."""
    clock = SystemClock()
    engine = await open_shared(address, clock, Chance(), read_only=True)
    try:
        yield EngineOperator(engine, clock)
    finally:
        await engine.close()


@asynccontextmanager
async def found_operator(data: Path) -> AsyncIterator[RemoteOperator | None]:
    """The operator of the server that runs on `data`, None if there is none."""
    address = find_server(data)
    if address is None:
        yield None
        return
    async with remote_operator(address) as remote:
        yield remote if await remote.is_there() else None


@asynccontextmanager
async def running_operator(data: Path) -> AsyncIterator[RemoteOperator]:
    """The operator of the server that runs on `data`. Raises `CommandFailed` if there is none."""
    async with found_operator(data) as remote:
        if remote is None:
            hint = "any node of a cluster can be asked, on its own machine: name its --data"
            raise CommandFailed(f"no server runs on the data directory {data}", hint)
        yield remote


async def _collect(
    operator: Operator, unit: str | None, prefix: str, cursor: str, limit: int | None
) -> tuple[list[ActorLine], str | None]:
    lines: list[ActorLine] = []
    following: str | None = cursor
    with progress_of(TextColumn("{task.completed:,} actors")) as progress:
        task = progress.add_task("listing", total=None)
        while following is not None and (limit is None or len(lines) < limit):
            wanted = LIST_ACTORS_MAX if limit is None else min(LIST_ACTORS_MAX, limit - len(lines))
            page = await operator.list_actors(unit, prefix, following, wanted)
            lines += page.actors
            following = page.cursor
            progress.update(task, completed=len(lines))
    return lines, following


async def _export(operator: Operator, actor: ActorId, file: Path) -> None:
    view = await operator.show(actor)
    with progress_of(BarColumn(), DownloadColumn()) as progress:
        task = progress.add_task("exporting", total=view.line.size_bytes)
        await operator.export(actor, file, lambda size_bytes: progress.advance(task, size_bytes))


def progress_of(*columns: Any) -> Progress:
    """A bar on standard error where that is a terminal, otherwise nothing."""
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), *columns, console=err, transient=True, disable=not err.is_terminal
    )


def _print_values(title: str, values: list[ValueLine]) -> None:
    if not values:
        return
    table = new_table(title=title)
    for value in values:
        text = str(value.value) if value.cut else msgspec.json.encode(value.value).decode()
        table.add_row(escape(value.name or '""'), escape(_cut(text)), f"{value.size_bytes:,} bytes")
    print_table(table)


def alarms_table(alarms: list[ValueLine]) -> Table:
    """When each rings, how it repeats, and how it has failed."""
    table = new_table("alarm", "due (UTC)", "repeats", "payload", "")
    for alarm in alarms:
        name = escape(alarm.name or '""')
        if alarm.cut or not isinstance(alarm.value, dict):
            table.add_row(name, "", "", escape(_cut(str(alarm.value))))
            continue
        row = alarm.value
        every = "" if row["every_ms"] is None else f"every {row['every_ms'] / 1000:g} s"
        repeats = every if row["cron"] is None else f"{row['cron']} ({row['timezone']})"
        payload = "" if row["payload"] is None else _cut(msgspec.json.encode(row["payload"]).decode())
        state = (
            f"dead: {row['error']}" if row["dead"] else f"failed {row['failures']} times: {row['error']}" if row["failures"] else ""
        )
        table.add_row(name, "" if row["dead"] else _moment(row["due_ms"]), escape(repeats), escape(payload), escape(state))
    return table


def _cut(text: str) -> str:
    return text[:VALUE_CHARS_SHOWN] + "…" if len(text) > VALUE_CHARS_SHOWN else text


def _print_sql(view: ActorView) -> None:
    if not view.sql_bytes:
        return
    out.print(f"SQL database: {view.sql_bytes:,} bytes", markup=False)
    if view.tables is None:
        err.print("it is too large to look into: `stead actors export` writes it to a file", style="dim")
    for table in view.tables or []:
        out.print(f"  {table.name}: {table.rows:,} rows", markup=False)


def _moment(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
