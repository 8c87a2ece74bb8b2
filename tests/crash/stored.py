"""What lies on the disk, read beside the server: work that waits shows in no answer of an application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from stead.runtime.chores import WAKE_ALARM
from stead.storage.entries import OUTBOX, USER, range_end
from stead.storage.sqlite.file import DatabaseFile
from tests.crash.connection import patiently

WAITING = {
    "signals": (OUTBOX, WAKE_ALARM),
    "messages": (USER + b"q:", "queue"),
}  # where they lie, and the alarm that wakes their actor
DRAINED_S_MAX = 60.0  # after a crash an outbox is looked at after 5 s, a queue after 10 s
_HELD = """
SELECT actors.id, count(*), EXISTS (SELECT 1 FROM alarms WHERE alarms.actor = actors.id AND alarms.name = ?)
FROM actors JOIN entries ON entries.actor = actors.number AND entries.key >= ? AND entries.key < ? GROUP BY actors.id
"""


@dataclass(frozen=True)
class Held:
    """What one actor holds for others. If nobody will wake it, that is lost though it is there."""

    actor: str
    what: str
    count: int
    has_alarm: bool

    def __str__(self) -> str:
        return f"{self.actor} holds {self.count} {self.what}" + ("" if self.has_alarm else ", and no alarm will wake it")


class Stored:
    """The database of a server that runs."""

    def __init__(self, data: Path) -> None:
        self._file = DatabaseFile(data)

    async def undelivered(self, letters: frozenset[str] = frozenset()) -> list[str]:
        """What is wrong with the work that waits once it had its time: it is there still, or for ever. Dead letters may stay."""
        orphans = [str(held) for held in self._held() if not held.has_alarm]

        async def look() -> list[str]:
            return [str(held) for held in self._held() if held.actor not in letters]

        return orphans or await patiently(look, DRAINED_S_MAX)

    def _held(self) -> Iterator[Held]:
        with closing(self._file.open_reader()) as connection:
            for what, (prefix, alarm) in WAITING.items():
                for actor, count, has_alarm in connection.execute(_HELD, (alarm, prefix, range_end(prefix))):
                    yield Held(actor, what, count, bool(has_alarm))
