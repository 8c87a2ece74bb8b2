"""`stead check`: everything that is wrong with an application, or what it consists of."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table

from stead.cli.console import new_table, print_json, print_table
from stead.cli.options import Json, Place
from stead.errors import ManifestError, SteadError
from stead.manifest import ManifestErrors, Observer, Reachable, Unit
from stead.node import LoadedApplication, load_application, public_actors


def check(place: Place = Path(), json: Json = False) -> None:
    """Say what is wrong with an application, all of it, or what it consists of."""
    try:
        application = load_application(place)
    except SteadError as exc:
        if not json:
            raise
        errors = exc.errors if isinstance(exc, ManifestErrors) else (exc,)
        print_json({"ok": False, "errors": [error_json(error) for error in errors]})
        raise typer.Exit(1) from exc
    if json:
        units = [unit_json(unit, application) for unit in application.manifest.units]
        print_json({"ok": True, "application": application.manifest.name, "units": units})
        return
    print_table(units_table(application))


def units_table(application: LoadedApplication) -> Table:
    """Every unit, what stands behind it, where its rooms are, and who observes what."""
    table = new_table("kind", "unit", "binding", "class", "", title=f"application {application.manifest.name}")
    for unit in application.manifest.units:
        place = room_path(unit, application) or source_label(unit, application)
        table.add_row(unit.kind, unit.name, unit.binding, class_label(unit, application), place)
    return table


def source_label(unit: Unit, application: LoadedApplication) -> str:
    """What an observer observes, and who observes a queue or a bucket; empty for all else."""
    if isinstance(unit, Observer):
        return f"observes queue {unit.queue}" if unit.bucket is None else f"observes bucket {unit.bucket}"
    observers = application.manifest.observers
    names = [observer.name for observer in observers if unit.name == (observer.queue if unit.kind == "queue" else observer.bucket)]
    if unit.kind in {"queue", "bucket"} and names:
        return f"observed by {', '.join(names)}"
    return "pulled" if unit.kind == "queue" else ""


def room_path(unit: Unit, application: LoadedApplication) -> str:
    """Where the rooms of a unit are, on every host; empty if it is no public actor."""
    return f"/parties/{unit.name}/:room" if unit.kind == "actor" and unit.name in public_actors(application) else ""


def class_label(unit: Unit, application: LoadedApplication) -> str:
    """The class or application behind a unit, as `module:name`; empty if it has none."""
    targets = (application.actors, application.services, application.observers, application.tasks)
    target = next((units[unit.name] for units in targets if unit.name in units), None)
    if isinstance(target, type):
        return f"{target.__module__}:{target.__qualname__}"
    return (unit.handler or "") if isinstance(unit, Reachable) else ""


def unit_json(unit: Unit, application: LoadedApplication) -> dict[str, object]:
    return {
        "kind": unit.kind,
        "name": unit.name,
        "binding": unit.binding,
        "class": class_label(unit, application),
    }


def error_json(error: SteadError) -> dict[str, object]:
    if isinstance(error, ManifestError):
        place = {"file": error.file, "line": error.line, "column": error.column}
        return {**place, "problem": error.problem, "hint": error.hint}
    return {"file": "", "line": 1, "column": 1, "problem": str(error), "hint": ""}
