"""What the loop asks of an application under attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.crash.connection import Connection
from tests.crash.stored import Stored

ROOT = Path(__file__).parents[2]
NAMES = [f"name-{number}" for number in range(8)]  # of the actors of a kind: few, so that clients meet at them


@dataclass
class Load:
    """What the clients of one round did, and what was wrong with the answers."""

    round: int
    acknowledged: int = 0
    in_doubt: int = 0
    faults: list[str] = field(default_factory=list)


class Workload(Protocol):
    """An application, what clients do to it, and what must be true of it ever after."""

    name: str
    place: Path

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        """Ask without end, one request after the other, until `ServerGone`."""
        ...

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        """What is wrong with the data now, after a restart. All that it reads counts as acknowledged from here on."""
        ...
