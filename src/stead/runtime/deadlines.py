"""The time limit of turns, at the cost of one timer for each limit and not for each turn.

Turns with the same limit expire in the order they began, so a queue for each limit holds them and one timer watches its head. A
turn that has ended is dropped when it reaches the head.
"""

from __future__ import annotations

import asyncio
from collections import deque

from stead.runtime.turn import Turn


class Deadlines:
    """One per node."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queues: dict[float, deque[Turn]] = {}  # by limit: as many as classes name
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def watch(self, turn: Turn, limit_s: float) -> None:
        """Call `time_out` on the turn's activation if it is not over in `limit_s`."""
        queue = self._queues.get(limit_s)
        if queue is None:
            queue = self._queues[limit_s] = deque()
        while queue and queue[0].over:
            queue.popleft()
        turn.deadline_s = self._loop.time() + limit_s
        queue.append(turn)
        if limit_s not in self._timers:
            self._timers[limit_s] = self._loop.call_at(turn.deadline_s, self._expire, limit_s)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _expire(self, limit_s: float) -> None:
        queue = self._queues[limit_s]
        now_s = self._loop.time()
        while queue and (queue[0].over or queue[0].deadline_s <= now_s):
            turn = queue.popleft()
            if not turn.over:
                turn.activation.time_out(turn)
        if queue:
            self._timers[limit_s] = self._loop.call_at(queue[0].deadline_s, self._expire, limit_s)
        else:
            del self._timers[limit_s]
