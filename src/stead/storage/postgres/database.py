"""One database as the engine asks it: statements that may be repeated are, until a bound, over reconnects and conflicts."""

from __future__ import annotations

from typing import Any

from stead.clock import Clock, sleep
from stead.errors import EngineFailed
from stead.storage.postgres.connections import Connections, Rank
from stead.storage.postgres.failure import (
    CONTENT_ERRORS,
    DRIVER_ERRORS,
    Unreached,
    failure,
    is_conflict,
    is_lost,
    shown,
)
from stead.storage.postgres.fence import Fence

STATEMENT_S_MAX = 15.0  # a server that is silent for longer is taken to be gone
RETRY_S_MAX = 5.0  # over which a read or a claim is tried again: a restart of the server or the pooler, seldom a failover
PAUSE_S = 0.02  # before the second attempt; doubled for each further one up to PAUSE_S_MAX
PAUSE_S_MAX = 0.5


class Pause:
    """Waits longer each time, until a bound."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._until_s = clock.elapsed_s() + limit_s
        self._next_s = PAUSE_S

    @property
    def is_over(self) -> bool:
        return self._clock.elapsed_s() >= self._until_s

    async def wait(self) -> None:
        await sleep(self._next_s)
        self._next_s = min(2 * self._next_s, PAUSE_S_MAX)


class Database:
    """A schema of a database, and the connections to it."""

    def __init__(self, dsn: str, schema: str, connections: Connections, clock: Clock) -> None:
        self.where = shown(dsn)
        self.schema = schema
        self.connections = connections
        self.clock = clock
        self.fence = Fence()

    async def ask(self, text: str, *args: object, rank: Rank = Rank.QUESTION, timeout_s: float = STATEMENT_S_MAX) -> list[Any]:
        """The rows of a statement that may run twice; one that takes `timeout_s` is sent again. Raises `EngineFailed`."""
        pause = Pause(self.clock, RETRY_S_MAX)
        while True:
            try:
                return await self.connections.fetch(text, *args, timeout_s=timeout_s, rank=rank)
            except (Unreached, *DRIVER_ERRORS, *CONTENT_ERRORS) as exc:
                may_pass = isinstance(exc, Unreached) or is_lost(exc) or is_conflict(exc)
                if not may_pass or pause.is_over or self.connections.is_closed:
                    raise failure(exc, self.where) from exc
            await pause.wait()

    def check_open(self) -> None:
        if self.connections.is_closed:
            raise EngineFailed(f"the engine on {self.where} is closed: open another")
