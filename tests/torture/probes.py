"""Who asks for an actor that a client waits for, so that the end of an outage is seen when it comes.

A client sends one request at a time, and may wait for a node that is frozen while another has its actor long since. So whatever is
not answered soon is asked for by a probe as well: a read over nodes to which nothing is being done, one after the other, until one
is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stead.clock import SystemClock, sleep
from stead.ids import Chance
from stead.runtime import Tasks
from tests.crash.connection import NeverCame, ServerGone, connected
from tests.torture.availability import SLOW_S, Attempt
from tests.torture.history import History
from tests.torture.nodes import Node

PROBE_S = 1.0  # after which another node is asked
PAUSE_S = 0.1
CLOCK = SystemClock()


class Probes:
    """`well` says to which nodes nothing is being done at this moment."""

    def __init__(self, well: Callable[[], Sequence[Node]], history: History, chance: Chance) -> None:
        self._well = well
        self._history = history
        self._chance = chance
        self._tasks = Tasks()
        self._asked: set[str] = set()

    @contextmanager
    def watch(self, actor: str, path: str) -> Iterator[None]:
        """A request is under way in the block, of which `miss` is said where it takes long."""
        timer = asyncio.get_running_loop().call_later(SLOW_S, self.miss, actor, path)
        try:
            yield
        finally:
            timer.cancel()

    def miss(self, actor: str, path: str) -> None:
        """It was not answered: ask for the actor, unless that is being done."""
        if actor not in self._asked:
            self._asked.add(actor)
            self._tasks.start(self._probe(actor, path))

    async def close(self) -> None:
        await self._tasks.close()

    async def _probe(self, actor: str, path: str) -> None:
        try:
            while not await self._is_answered(actor, path):
                await sleep(PAUSE_S)
        finally:
            self._asked.discard(actor)

    async def _is_answered(self, actor: str, path: str) -> bool:
        well = self._well()
        edge, begin_s = well[self._chance.below(len(well))], CLOCK.elapsed_s()
        try:
            async with connected(edge.port) as connection:
                answer = await connection.exchange("GET", path, limit_s=PROBE_S)
        except (ServerGone, NeverCame) as exc:
            owner, how = "", "cut off" if isinstance(exc, ServerGone) else "no answer"
        else:
            owner, how = answer.value.get("owner", "").partition(":")[0], str(answer.status)
        self._history.attempts.append(Attempt(actor, edge.name, begin_s, CLOCK.elapsed_s(), owner, f"probe: {how}"))
        return bool(owner)
