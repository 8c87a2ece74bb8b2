"""How a command reaches the data services of an application: through the server that runs it, or, where none does, through a node
of its own that answers nobody else and lets no alarm ring. A node of one's own is none of a cluster: there a server has to run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from stead.admin import NodeUnits, Units
from stead.cli.actors import found_operator, running_operator
from stead.cli.console import CommandFailed
from stead.cli.logs import log_to_console
from stead.cli.values import values_of
from stead.clock import SystemClock
from stead.ids import Chance
from stead.node import SQLITE, ClusterSettings, Node, Operating, Settings, load_application, manifest_path
from stead.storage.sqlite import open_data

T = TypeVar("T")

App = Annotated[
    Path, typer.Option("--app", metavar="DIR", help="The application's directory, or its manifest.", show_default="here")
]
Data = Annotated[Path | None, typer.Option(envvar="STEAD_DATA", help="The data directory.", show_default="APP/.stead")]


def with_units(place: Path, data: Path | None, work: Callable[[Units], Awaitable[T]]) -> T:
    """What `work` returns that is given the data services of the application at `place`."""

    async def run() -> T:
        async with units_of(place, data_of(place, data)) as units:
            return await work(units)

    return asyncio.run(run())


def data_of(place: Path, data: Path | None) -> Path:
    """The data directory: the one that was given, or the application's own."""
    return data or manifest_path(place).parent / Settings().data


@asynccontextmanager
async def units_of(place: Path, data: Path) -> AsyncIterator[Units]:
    if ClusterSettings(engine=os.environ.get("STEAD_ENGINE") or SQLITE).is_shared:
        async with running_operator(data) as there:
            yield there
        return
    async with found_operator(data) as remote:
        if remote is not None:
            yield remote
            return
    values = values_of(place, data)
    application, clock = load_application(place), SystemClock()
    log_to_console(application.directory)
    engine = open_data(data, clock)
    try:
        settings = Settings(data=data, blobs=os.environ.get("STEAD_BLOBS", ""))
        node = Node(application, engine, settings, clock, Chance(), Operating(environ=values))
        try:
            yield NodeUnits(node)
        finally:
            await node.close()
    finally:
        await engine.close()


def operate(place: Path, data: Path | None, kind: str, name: str, operation: str, **arguments: Any) -> Any:
    """What an operation of a unit returns. Raises `CommandFailed` with the names there are if there is no such unit."""

    async def work(units: Units) -> Any:
        await check_unit(units, kind, name)
        return await units.operate(name, operation, arguments)

    return with_units(place, data, work)


async def find_units(units: Units, kind: str) -> list[str]:
    """The names of the units of a kind, in the order of the manifest."""
    return [line.name for line in await units.list_units() if line.kind == kind]


async def check_unit(units: Units, kind: str, name: str) -> None:
    """Raise `CommandFailed` with the names there are, unless the application has this unit."""
    known = await find_units(units, kind)
    if name not in known:
        hint = f"there are: {', '.join(known)}" if known else f"the manifest has no {kind}"
        raise CommandFailed(f"there is no {kind} {name!r}", hint)
