"""`stead nodes`: who is in the cluster, and taking a node out of it and back, over any server that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn
from rich.table import Table

from stead.admin import DRAINING, UP, NodeLine, Nodes
from stead.cli.actors import progress_of, running_operator
from stead.cli.console import CommandFailed, Commands, err, new_table, out, print_json, print_table
from stead.cli.options import Json, Place
from stead.cli.units import Data, data_of
from stead.clock import sleep

T = TypeVar("T")
LOOK_S = 0.5  # between two looks at a node that drains
APPLICATION_CHARS = 12  # of its digest, on a terminal

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Look at the nodes of a cluster, and drain them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")]


@app.command("list")
def list_nodes(place: Place = Path(), data: Data = None, json: Json = False) -> None:
    """List the nodes that are alive."""
    lines = with_nodes(data_of(place, data), lambda nodes: nodes.list_nodes())
    if json:
        print_json({"nodes": [msgspec.to_builtins(line) for line in lines]})
        return
    print_table(nodes_table(lines))
    if any(line.differs for line in lines):
        err.print("nodes run different versions of the application: an actor may find either", style="dim")


def nodes_table(lines: list[NodeLine]) -> Table:
    """What fits a terminal; a region and labels only where there are any."""
    places = [name for name in ("region", "labels") if any(getattr(line, name) for line in lines)]
    table = new_table("node", "state", "actors", "lease", *places, "url", "application")
    table.columns[2].justify = table.columns[3].justify = "right"
    for line in lines:
        labels = ",".join(f"{name}={value}" for name, value in line.labels.items())
        place = [{"region": line.region, "labels": labels}[name] for name in places]
        application = line.application[:APPLICATION_CHARS] + (" (differs)" if line.differs else "")
        cells = (line.name, line.state, f"{line.actors:,}", f"{line.lease_left_s:.1f} s", *place, line.url, application)
        table.add_row(*map(escape, cells))
    return table


@app.command()
def drain(
    name: Name,
    place: Place = Path(),
    wait: Annotated[bool, typer.Option("--wait", help="Return when the node owns no actor any more.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.0, show_default="no limit", help="With --wait: seconds to wait at most.")] = inf,
    data: Data = None,
    json: Json = False,
) -> None:
    """Have a node give its actors to others and take no more. It goes on answering its clients."""

    async def work(nodes: Nodes) -> int:
        await nodes.set_draining(name, True)
        return await wait_drained(nodes, name, timeout_s) if wait else await _owned(nodes, name)

    left = with_nodes(data_of(place, data), work)
    if json:
        print_json({"node": name, "state": DRAINING, "actors": left})
    elif wait:
        out.print(f"{name} owns no actor any more", markup=False)
    else:
        out.print(f"{name} is draining: its {left:,} actors go to other nodes", markup=False)


@app.command()
def uncordon(name: Name, place: Place = Path(), data: Data = None, json: Json = False) -> None:
    """Let a node that was drained take actors again."""
    with_nodes(data_of(place, data), lambda nodes: nodes.set_draining(name, False))
    if json:
        print_json({"node": name, "state": UP})
    else:
        out.print(f"{name} takes actors again", markup=False)


def with_nodes(data: Path, work: Callable[[Nodes], Awaitable[T]]) -> T:
    """What `work` returns that is given the nodes, as the server on a data directory knows them."""

    async def run() -> T:
        async with running_operator(data) as operator:
            return await work(operator)

    return asyncio.run(run())


async def wait_drained(nodes: Nodes, name: str, timeout_s: float = inf) -> int:
    """Until the node owns nothing, or is there no more. Raises `CommandFailed` if that is not to be, or takes longer."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    with progress_of(BarColumn(), MofNCompleteColumn()) as progress:
        task = progress.add_task(f"draining {name}", total=None)
        most = 0
        while True:
            lines = await nodes.list_nodes()
            line = _find(lines, name)
            if line is None or (line.state == DRAINING and line.actors == 0):
                return 0
            if line.state != DRAINING:
                raise CommandFailed(f"{name} takes actors again: somebody has ended its draining", "run it again if that was wrong")
            if all(other.state != UP for other in lines):
                raise CommandFailed(
                    f"no other node is up: the {line.actors:,} actors of {name} stay until there is one",
                    "start one, or uncordon one",
                )
            if loop.time() >= until_s:
                raise CommandFailed(
                    f"{name} still owns {line.actors:,} actors after {timeout_s:g} s, and goes on draining",
                    "wait for it again, or see in its log what keeps them",
                )
            most = max(most, line.actors)
            progress.update(task, total=most, completed=most - line.actors)
            await sleep(LOOK_S)


async def _owned(nodes: Nodes, name: str) -> int:
    line = _find(await nodes.list_nodes(), name)
    return 0 if line is None else line.actors


def _find(lines: list[NodeLine], name: str) -> NodeLine | None:
    return next((line for line in lines if line.name == name), None)
