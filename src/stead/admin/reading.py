"""Reading an actor out of an engine, some of it at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stead.errors import Invalid
from stead.ids import ActorId
from stead.storage.contract import ActorRow, Engine
from stead.storage.entries import range_end

SCAN_ROWS = 1_000  # read at once: 4 MB where they are SQL pages
_LAST_DIGITS = 16  # unique ids that differ in the last hexadecimal digit only


async def find_row(engine: Engine, actor: ActorId) -> ActorRow:
    """The actor's line in the registry. Raises `Invalid` if it holds nothing."""
    if actor.name is not None:  # of all names that begin with this one, it is the first
        rows = await engine.actors(actor.unit, prefix=actor.name, limit=1)
    else:
        rows = await engine.actors(actor.unit, after=actor.text[:-1], limit=_LAST_DIGITS)
    for row in rows:
        if row.actor == actor:
            return row
    raise Invalid(f"there is no actor {actor}; `stead actors list` shows those there are")


async def read_batches(engine: Engine, actor: ActorId, prefix: bytes) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """All entries under `prefix`, in order, at most SCAN_ROWS at a time."""
    start, end = prefix, range_end(prefix)
    while True:
        rows = await engine.scan(actor, start, end, limit=SCAN_ROWS)
        if rows:
            yield rows
        if len(rows) < SCAN_ROWS:
            return
        start = rows[-1][0] + b"\0"
