"""Which actors stay in memory: an idle one leaves after its class's idle time, the longest idle ones before when memory is short.

Idle actors wait in queues, one for each idle time that classes name; within a queue who became idle first leaves first, so one
timer a queue is enough.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Resident(Protocol):
    """What residency knows of an activation."""

    @property
    def is_idle(self) -> bool: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def hibernate_after_s(self) -> float: ...


class Residency:
    """One per node. `evict` is called with an idle resident that must go."""

    def __init__(self, resident_bytes_max: int, evict: Callable[[Resident], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bytes_max = resident_bytes_max
        self._evict = evict
        self._idle: dict[float, OrderedDict[Resident, float]] = {}  # by idle time; in each, who ended when, earliest first
        self._sizes: dict[Resident, int] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self.size_bytes = 0

    def idle(self, resident: Resident) -> None:
        """Its last work has ended. That it has work again need not be told: whose turn it is to leave is asked then."""
        after_s = resident.hibernate_after_s
        queue = self._idle.get(after_s)
        if queue is None:
            queue = self._idle[after_s] = OrderedDict()
        queue[resident] = self._loop.time()
        queue.move_to_end(resident)
        size_bytes, before_bytes = resident.size_bytes, self._sizes.get(resident, 0)
        if size_bytes != before_bytes:
            self._sizes[resident] = size_bytes
            self.size_bytes += size_bytes - before_bytes
        if after_s not in self._timers:
            self._timers[after_s] = self._loop.call_later(after_s, self._sweep, after_s)
        if self.size_bytes > self._bytes_max:
            self._make_room()

    def forget(self, resident: Resident) -> None:
        """It has left memory."""
        self._dequeue(resident)
        self.size_bytes -= self._sizes.pop(resident, 0)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _sweep(self, after_s: float) -> None:
        queue = self._idle[after_s]
        now_s = self._loop.time()
        while queue:
            resident, since_s = next(iter(queue.items()))
            if since_s + after_s > now_s:
                self._timers[after_s] = self._loop.call_at(since_s + after_s, self._sweep, after_s)
                return
            self._leave(resident)
        del self._timers[after_s]

    def _make_room(self) -> None:
        """Evict who has been idle longest until the rest fits."""
        while self.size_bytes > self._bytes_max:
            oldest = min(
                (next(iter(queue.items())) for queue in self._idle.values() if queue), key=lambda item: item[1], default=None
            )
            if oldest is None:
                return
            self._leave(oldest[0])

    def _leave(self, resident: Resident) -> None:
        """Evict it, unless it has work again: then it comes back here when that has ended."""
        if resident.is_idle:
            self._evict(resident)
        else:
            self._dequeue(resident)

    def _dequeue(self, resident: Resident) -> None:
        queue = self._idle.get(resident.hibernate_after_s)
        if queue is not None:
            queue.pop(resident, None)
