"""`stead` with a planted bug: `python sabotaged.py BUG serve DIR …`. The product knows none of them.

early     a turn is answered before its commit reaches the disk
torn      a batch is written row by row instead of in one transaction
twice     every now and then an event is delivered a second time, as a careless retry would
unwritten a turn is answered and its commit never reaches the disk

The others are those of P8 in `stead.testing`: what is wrong in memory there is wrong in a process, too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from threading import Event

import apsw

from stead.cli import main
from stead.clock import sleep
from stead.events import Event as Deliverable
from stead.ids import ActorId
from stead.runtime.dispatcher import Dispatcher
from stead.runtime.tasks import Tasks
from stead.runtime.turn import Reply, Turn
from stead.storage.contract import Commit
from stead.storage.sqlite import SqliteEngine
from stead.storage.sqlite.writer import PUT_ENTRIES, Change
from stead.testing import BINDING_SABOTAGES, SABOTAGES, sabotaged

LATE_S = 0.05  # how long after its answer a commit of `early` is written
ROW_PAUSE_S = 0.002  # between the rows of `torn`: the kill comes between two of them
EVENTS_PER_REPEAT = 50


def plant_early() -> None:
    commit = SqliteEngine.commit
    tasks: list[Tasks] = []

    async def write_late(engine: SqliteEngine, batch: Sequence[Commit]) -> None:
        await sleep(LATE_S)
        await commit(engine, batch)

    async def acknowledge(engine: SqliteEngine, batch: Sequence[Commit]) -> Sequence[bool]:
        if not tasks:
            tasks.append(Tasks())
        tasks[0].start(write_late(engine, batch))
        return [True] * len(batch)

    SqliteEngine.commit = acknowledge  # type: ignore[assignment]


def plant_unwritten() -> None:
    async def acknowledge(engine: SqliteEngine, batch: Sequence[Commit]) -> Sequence[bool]:
        return [True] * len(batch)

    SqliteEngine.commit = acknowledge  # type: ignore[assignment]


def plant_torn() -> None:
    def write(change: Change, connection: apsw.Connection) -> None:
        change.statements[PUT_ENTRIES] += change._heads
        for statement, rows in change.statements.items():
            for row in sorted(rows, key=lambda row: str(row[1:2])):  # by key: all actors of the batch are half written meanwhile
                statement.execute(connection, [row])
                Event().wait(ROW_PAUSE_S)

    Change.write = write  # type: ignore[assignment]


def plant_twice() -> None:
    forward = Dispatcher.forward
    events = 0

    def forward_again(self: Dispatcher, target: ActorId, event: Deliverable, reply: Reply, caller: Turn | None) -> None:
        nonlocal events
        events += 1
        forward(self, target, event, reply, caller)
        if events % EVENTS_PER_REPEAT == 0:
            forward(self, target, event, self._loop.create_future(), None)

    Dispatcher.forward = forward_again  # type: ignore[method-assign]


PLANTERS = {"early": plant_early, "torn": plant_torn, "twice": plant_twice, "unwritten": plant_unwritten}
PLANTS = {name: plant for name, plant in (SABOTAGES | BINDING_SABOTAGES).items() if plant.promise == "P8"}
BUGS = (*PLANTERS, *PLANTS)

if __name__ == "__main__":
    bug = sys.argv.pop(1)
    if bug in PLANTERS:
        PLANTERS[bug]()
        main()
    else:
        with sabotaged(PLANTS[bug]):
            main()
