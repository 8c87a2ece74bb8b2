"""The time limit of turns, at the cost of one timer for each limit and not for each turn.

Turns with the same limit expire in the order they began, so a queue for each limit knows them and one timer watches its head. It
does not keep them: one slow turn must not hold what all those after it were given and wrote. The place of one that has ended is
dropped when it reaches the head, or when the queue has doubled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import ReferenceType, ref

from stead.runtime.turn import Turn

QUEUE_TURNS_MIN = 1024  # a queue is not cleared of ended turns before it is this long


class Deadlines:
    """One per node."""

    def __init__(self) -> None:
        self._queues: dict[float, Deadline] = {}  # by limit: as many as classes name

    def after(self, limit_s: float) -> Deadline:
        """What watches turns with this limit."""
        deadline = self._queues.get(limit_s)
        if deadline is None:
            deadline = self._queues[limit_s] = Deadline(limit_s)
        return deadline

    def close(self) -> None:
        for queue in self._queues.values():
            queue.close()


class Deadline:
    """The turns with one limit, in the order they began."""

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._turns: deque[ReferenceType[Turn]] = deque()
        self._clear_at = QUEUE_TURNS_MIN
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, turn: Turn) -> None:
        """Call `time_out` on the turn's activation if it is not over in time. It begins now."""
        turns = self._turns
        while turns and ((first := turns[0]()) is None or first.over):
            turns.popleft()
        if len(turns) >= self._clear_at:
            turns = self._turns = deque(place for place in turns if (running := place()) is not None and not running.over)
            self._clear_at = max(QUEUE_TURNS_MIN, 2 * len(turns))
        turn.deadline_s = self._loop.time() + self._limit_s
        turns.append(ref(turn))
        if self._timer is None:
            self._timer = self._loop.call_at(turn.deadline_s, self._expire)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        turns = self._turns
        now_s = self._loop.time()
        while turns and ((turn := turns[0]()) is None or turn.over or turn.deadline_s <= now_s):
            turns.popleft()
            if turn is not None and not turn.over:
                turn.activation.time_out(turn)
                turns = self._turns  # what it began may have cleared them
        self._timer = self._loop.call_at(turn.deadline_s, self._expire) if turns and turn is not None else None
