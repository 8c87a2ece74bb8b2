"""Which connections are still alive: one sweep asks all those from which nothing has come for a while.

Time is counted in ticks, of which the shorter of the two waits has TICKS. A connection notes the tick in which something came, and
nothing else happens then. It waits in the ring's slot of the tick in which it is to be looked at; then it is asked, dropped, or put
into the slot that what it sent since has earned it. So nothing is kept in order and no connection has a timer. A loop that was busy
for long has counted one tick, not many: a peer is never dropped for an answer that nobody had the time to read.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

TICKS = 20


class Alive(Protocol):
    """A connection, as far as its life goes. The attributes are its own notes and the heartbeat's."""

    seen_tick: int  # in which something came last
    slot: int  # in which it waits

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        ...

    def is_excused(self) -> bool:
        """Whether silence means nothing now."""
        ...

    def lose(self) -> None:
        """Drop the connection: its peer is gone."""
        ...


class Heartbeat:
    """Asks after `ping_s` of silence, and drops after `pong_s` more. Both are kept to within a tick."""

    def __init__(self, ping_s: float, pong_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_s = min(ping_s, pong_s) / TICKS
        self._ping_ticks = math.ceil(ping_s / self._tick_s - 1e-9) + 1  # the tick it was seen in may be over as good as
        self._pong_ticks = math.ceil(pong_s / self._tick_s - 1e-9)
        self._ring: list[dict[Alive, bool]] = [{} for _ in range(self._ping_ticks + self._pong_ticks)]  # with: was it asked?
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self.tick = 0

    def add(self, connection: Alive) -> None:
        """Watch a connection from now on."""
        connection.seen_tick = self.tick
        self._put(connection, self.tick + self._ping_ticks, is_asked=False)
        self._count += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._sweep)

    def remove(self, connection: Alive) -> None:
        """Watch it no longer."""
        del self._ring[connection.slot][connection]
        self._count -= 1
        if not self._count and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, connection: Alive, tick: int, *, is_asked: bool) -> None:
        connection.slot = tick % len(self._ring)
        self._ring[connection.slot][connection] = is_asked

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._sweep)
        self.tick += 1
        slot = self.tick % len(self._ring)
        due, self._ring[slot] = self._ring[slot], {}
        gone = [connection for connection, is_asked in due.items() if not self._look(connection, is_asked)]
        for connection in gone:
            connection.lose()

    def _look(self, connection: Alive, is_asked: bool) -> bool:
        """Put a connection whose turn it is where it belongs next. Returns whether it may live on."""
        if connection.is_excused():
            connection.seen_tick = self.tick
        asks_at = connection.seen_tick + self._ping_ticks
        if asks_at > self.tick:
            self._put(connection, asks_at, is_asked=False)
            return True
        is_silent = is_asked and connection.seen_tick < self.tick - self._pong_ticks
        self._put(connection, self.tick + self._pong_ticks, is_asked=True)
        if not is_silent:
            connection.ping()
        return not is_silent
