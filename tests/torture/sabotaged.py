"""`stead` with a planted bug: `python sabotaged.py BUG serve DIR …`. The product knows none of them.

early     a turn is answered before its commit reaches the database
stale     a node never gives up its actors: after a freeze it answers what it remembers
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stead.cli import main
from stead.clock import sleep
from stead.cluster.membership import Lease
from stead.runtime.dispatcher import Dispatcher
from stead.runtime.tasks import Tasks
from stead.storage.contract import Commit
from stead.storage.postgres import PostgresEngine

LATE_S = 0.2  # how long after its answer a commit of `early` is written


def plant_early() -> None:
    commit = PostgresEngine.commit
    tasks: list[Tasks] = []

    async def write_late(engine: PostgresEngine, batch: Sequence[Commit]) -> None:
        await sleep(LATE_S)
        await commit(engine, batch)

    async def acknowledge(engine: PostgresEngine, batch: Sequence[Commit]) -> Sequence[bool]:
        if not tasks:
            tasks.append(Tasks())
        tasks[0].start(write_late(engine, batch))
        return [True] * len(batch)

    PostgresEngine.commit = acknowledge  # type: ignore[method-assign, assignment]


def plant_stale() -> None:
    Lease.is_held = property(lambda lease: True)  # type: ignore[assignment, method-assign]
    Dispatcher.give_up = lambda dispatcher: None  # type: ignore[method-assign, assignment]


PLANTERS = {"early": plant_early, "stale": plant_stale}
BUGS = (*PLANTERS,)

if __name__ == "__main__":
    PLANTERS[sys.argv.pop(1)]()
    main()
