"""`stead tasks`: what runs on a schedule, how it went, and running it now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from stead.admin import Units
from stead.bindings import Outcome, TaskRun, TaskStatus
from stead.cli.console import Commands, new_table, out, print_json, print_table
from stead.cli.options import Json
from stead.cli.units import App, Data, find_units, operate, with_units

RUNS_SHOWN = 10

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Look at tasks, and run them now.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The task's name in the manifest.")]


@app.command("list")
def list_tasks(place: App = Path(), data: Data = None, json: Json = False) -> None:
    """List the tasks: when each runs next, and how its last run ended."""
    found = with_units(place, data, _statuses)
    if json:
        print_json({"tasks": [{"name": name, **msgspec.to_builtins(status)} for name, status in found.items()]})
        return
    table = new_table("task", "cron", "next (UTC)", "last (UTC)", "outcome")
    for name, status in found.items():
        last = status.last
        started = "" if last is None else f"{last.started_at:%Y-%m-%d %H:%M:%S}"
        cron = status.cron if status.timezone == "UTC" else f"{status.cron} ({status.timezone})"
        table.add_row(
            name, escape(cron), f"{status.next_time:%Y-%m-%d %H:%M}", started, "" if last is None else escape(_told(last))
        )
    print_table(table)


@app.command()
def runs(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Runs to show at most.")] = RUNS_SHOWN,
    place: App = Path(),
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the last runs of a task, the newest first."""
    history = operate(place, data, "task", name, "history", limit=limit)
    if json:
        print_json({"task": name, "runs": history})
        return
    table = new_table("run", "trigger", "scheduled (UTC)", "started (UTC)", "outcome")
    for run in msgspec.convert(history, list[TaskRun]):
        table.add_row(
            str(run.number),
            run.trigger.value,
            f"{run.scheduled_time:%Y-%m-%d %H:%M:%S}",
            f"{run.started_at:%Y-%m-%d %H:%M:%S}",
            escape(_told(run)),
        )
    print_table(table)


@app.command()
def run(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Run a task now and wait for its end. The exit code is 1 unless it succeeds."""
    result = operate(place, data, "task", name, "run")
    ended = msgspec.convert(result, TaskRun)
    if json:
        print_json({"task": name, "run": result})
    else:
        out.print(f"{name}: {_told(ended)}", markup=False)
    if ended.outcome is not Outcome.SUCCEEDED:
        raise typer.Exit(1)


async def _statuses(units: Units) -> dict[str, TaskStatus]:
    names = await find_units(units, "task")
    return {name: msgspec.convert(await units.operate(name, "status", {}), TaskStatus) for name in names}


def _told(run: TaskRun) -> str:
    if run.outcome is None:
        return "running"
    duration = "" if run.duration_s is None else f" after {run.duration_s:.1f} s"
    return f"{run.outcome.value}{duration}" + (f": {run.error}" if run.error else "")
