"""`stead doctor`: what is wrong with a machine, a data directory or an engine, and what to do about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import typer
from rich.markup import escape

from stead.admin.doctor import Finding, Level, Place, machine_findings, postgres_findings, sqlite_findings
from stead.cli.actors import progress_of
from stead.cli.console import CommandFailed, new_table, out, print_json, print_table
from stead.cli.migrate_engine import ADDRESSES
from stead.cli.options import Engine, Json
from stead.cli.options import Place as ApplicationPlace
from stead.cli.units import Data, data_of
from stead.clock import SystemClock
from stead.ids import Chance
from stead.node import SQLITE
from stead.storage.postgres.failure import shown

_STYLES = {Level.OK: "green", Level.NOTE: "dim", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def doctor(
    place: ApplicationPlace = Path(),
    engine: Engine = SQLITE,
    data: Data = None,
    json: Json = False,
) -> None:
    """Look at the machine, the data directory and the engine. Exit code 1 if anything has failed."""
    if engine != SQLITE and not engine.startswith(ADDRESSES):
        raise CommandFailed(f"{shown(engine)} is no engine", f"give {SQLITE} or postgres://user:password@host/database")
    with progress_of() as progress:
        progress.add_task("looking", total=None)
        findings = _findings(data_of(place, data), engine)
    has_failed = any(finding.level is Level.FAILED for finding in findings)
    if json:
        print_json({"ok": not has_failed, "findings": [msgspec.to_builtins(finding) for finding in findings]})
    else:
        _print(findings)
    if has_failed:
        raise typer.Exit(1)


def _findings(data: Path, engine: str) -> list[Finding]:
    clock, is_sqlite = SystemClock(), engine == SQLITE
    findings = machine_findings(Place(data, holds_actors=is_sqlite), clock)
    return findings + (sqlite_findings(data) if is_sqlite else asyncio.run(postgres_findings(engine, clock, Chance())))


def _print(findings: list[Finding]) -> None:
    table = new_table("", "what", "found", "what to do")
    for finding in findings:
        mark = f"[{_STYLES[finding.level]}]{finding.level.value}[/]"
        table.add_row(mark, finding.subject, escape(finding.found), escape(finding.remedy))
    print_table(table)
    counts = [sum(finding.level is level for finding in findings) for level in (Level.WARNING, Level.FAILED)]
    out.print(f"{counts[0]} warnings, {counts[1]} failed", markup=False)
