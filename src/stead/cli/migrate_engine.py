"""`stead migrate-engine`: every actor of one engine into another one, compared before anybody sees it there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn
from rich.progress import Progress as Bars

from stead.cli.actors import progress_of
from stead.cli.console import CommandFailed, err, out, print_json
from stead.cli.options import Json
from stead.clock import SystemClock
from stead.storage.postgres.failure import shown
from stead.storage.postgres.transfer import PostgresSource, PostgresTarget
from stead.storage.sqlite.transfer import SqliteSource, SqliteTarget
from stead.storage.transfer import Moved, Source, Target, Totals, move

ADDRESSES = ("postgres://", "postgresql://")
SQLITE = "sqlite:"
_FORMS = "sqlite:DATADIR, a data directory, or postgres://user:password@host/database"


def migrate_engine(
    source: Annotated[str, typer.Argument(metavar="FROM", help=f"Where the actors are: {_FORMS}.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where they go: the same forms, without actors yet.")],
    json: Json = False,
) -> None:
    """Move every actor from one engine into another that is empty. No server may run on either."""
    if _where(source) == _where(target):
        raise CommandFailed("FROM and TO are the same", "give the engine to move to second")
    moved = asyncio.run(_move(source, target))
    if json:
        print_json({"from": _where(source), "to": _where(target), **msgspec.structs.asdict(moved)})
        return
    what = f"{moved.actors:,} actors with {moved.entries:,} entries, {moved.alarms:,} alarms and {moved.size_bytes:,} bytes"
    out.print(f"moved {what} from {_where(source)} to {_where(target)}", markup=False)
    out.print(f"each was read back and is the same; digest of all {moved.digest}", markup=False)
    if not source.startswith(ADDRESSES):
        err.print("secrets and the bodies of objects are no actors: they stay where they are", style="dim")


async def _move(source: str, target: str) -> Moved:
    original = await _source(source)
    try:
        copy = await _target(target)
        try:
            with progress_of(BarColumn(), DownloadColumn()) as bars:
                return await move(original, copy, _Shown(bars, await original.totals()))
        finally:
            await copy.close()
    finally:
        await original.close()


class _Shown:
    """The progress as two bars."""

    def __init__(self, bars: Bars, totals: Totals) -> None:
        self._bars = bars
        self._copying = bars.add_task(f"copying {totals.actors:,} actors", total=totals.size_bytes)
        self._comparing = bars.add_task("comparing", total=totals.size_bytes)

    def copied(self, size_bytes: int) -> None:
        self._bars.advance(self._copying, size_bytes)

    def compared(self, size_bytes: int) -> None:
        self._bars.advance(self._comparing, size_bytes)


async def _source(address: str) -> Source:
    return await PostgresSource.open(address) if address.startswith(ADDRESSES) else SqliteSource.open(_directory(address))


async def _target(address: str) -> Target:
    if address.startswith(ADDRESSES):
        return await PostgresTarget.open(address, SystemClock())
    return SqliteTarget.open(_directory(address))


def _directory(address: str) -> Path:
    if "://" in address:
        raise CommandFailed(f"{shown(address)} is no engine", f"give {_FORMS}")
    return Path(address.removeprefix(SQLITE))


def _where(address: str) -> str:
    """The engine without its password."""
    return shown(address) if address.startswith(ADDRESSES) else f"{SQLITE}{_directory(address).resolve()}"
