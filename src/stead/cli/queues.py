"""`stead queues`: what waits, what has died, and what an operator does about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from stead.admin import Units
from stead.bindings import Pulled, QueueStatus
from stead.cli.console import Commands, new_table, out, print_json, print_table
from stead.cli.options import Json
from stead.cli.units import App, Data, find_units, operate, with_units

PEEK_MESSAGES = 10
BODY_CHARS = 100  # of a message in a table; --json has all of it

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Look at queues, and at what became of their messages.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name in the manifest.")]
Dead = Annotated[bool, typer.Option("--dead", help="The dead letters in place of the messages.")]


@app.command("list")
def list_queues(place: App = Path(), data: Data = None, json: Json = False) -> None:
    """List the queues: what waits in each, for how long, and who takes it."""

    async def work(units: Units) -> dict[str, QueueStatus]:
        names = await find_units(units, "queue")
        return {name: msgspec.convert(await units.operate(name, "status", {}), QueueStatus) for name in names}

    found = with_units(place, data, work)
    if json:
        print_json({"queues": [{"name": name, **msgspec.to_builtins(status)} for name, status in found.items()]})
        return
    table = new_table("queue", "observer", "messages", "in hands", "dead letters", "oldest", "")
    for column in table.columns[2:6]:
        column.justify = "right"
    for name, status in found.items():
        counts = (f"{count:,}" for count in (status.messages, status.in_hands, status.dead_letters))
        oldest = f"{status.oldest_s:,.0f} s" if status.messages else ""
        table.add_row(name, status.observer or "(pulled)", *counts, oldest, "paused" if status.paused else "")
    print_table(table)


@app.command()
def peek(
    name: Name,
    dead: Dead = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Messages to show at most.")] = PEEK_MESSAGES,
    place: App = Path(),
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the first messages of a queue, which stay where they are."""
    messages = operate(place, data, "queue", name, "look", limit=limit, dead=dead)
    if json:
        print_json({"queue": name, "messages": messages})
        return
    table = new_table("id", "sent (UTC)", "attempt", "body")
    for message in msgspec.convert(messages, list[Pulled]):
        body = msgspec.json.encode(message.body).decode()
        shown = body if len(body) <= BODY_CHARS else body[:BODY_CHARS] + "…"
        table.add_row(message.id, f"{message.timestamp:%Y-%m-%d %H:%M:%S}", str(message.attempts), escape(shown))
    print_table(table)


@app.command()
def purge(name: Name, dead: Dead = False, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Delete every message of a queue, or every dead letter."""
    count = operate(place, data, "queue", name, "purge", dead=dead)
    _say(json, name, "purged", count, f"{count:,} {'dead letters' if dead else 'messages'} deleted")


@app.command()
def replay_dead(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Send dead letters to their queue again, up to 1,000 at a time."""
    count = operate(place, data, "queue", name, "replay_dead")
    _say(json, name, "replayed", count, f"{count:,} dead letters sent again")


@app.command()
def pause(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Hand nothing out any more. Senders go on."""
    operate(place, data, "queue", name, "pause")
    _say(json, name, "paused", True, "paused")


@app.command()
def resume(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Hand messages out again."""
    operate(place, data, "queue", name, "resume")
    _say(json, name, "paused", False, "resumed")


def _say(json: bool, name: str, what: str, value: int, text: str) -> None:
    if json:
        print_json({"queue": name, what: value})
    else:
        out.print(f"{name}: {text}", markup=False)
