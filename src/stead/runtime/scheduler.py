"""Wakes actors whose alarms are due.

The engine's index is the truth; this holds the time of the next wake-up only. An alarm is asked for again until the commit of its
run has changed the index, so a wake that came to nothing (a full mailbox, a failed disk) is repeated after a pause, and a process
that dies forgets nothing. Wall time may jump or drift: every `POLL_S` it is compared with the loop's, in which the wake-up is set.

In a cluster other nodes set alarms as well, and those of one that dies become others' to fire: there the index is looked at every
`SHARED_POLL_S`. The engine says which alarms are this node's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stead.clock import Clock
from stead.errors import EngineFailed, Invalid
from stead.events import AlarmDue
from stead.ids import ActorId
from stead.runtime.tasks import Tasks
from stead.storage.contract import AlarmRow, Commit, Engine

POLL_S = 10.0  # how late an alarm may be after the wall clock jumped forward
SHARED_POLL_S = 1.0  # how late an alarm may be that another node set
DRIFT_S = 0.5  # by which the clocks may part before the index is looked at anew
UNDER_WAY_MAX = 512  # alarms delivered and not answered
LOOK_MAX = 10_000  # alarms read at a time, and the most that are remembered as paused
PAUSE_S = 1.0  # before an alarm whose delivery failed, or an engine that did, is tried again
ORPHAN_PAUSE_S = 3600.0  # before an alarm whose unit does not exist is tried again: it is there until the unit is, or is deleted

Deliver = Callable[[ActorId, AlarmDue], asyncio.Future[None]]
log = logging.getLogger("stead")


class AlarmScheduler:
    """One per node."""

    def __init__(self, engine: Engine, clock: Clock, tasks: Tasks, deliver: Deliver, *, is_shared: bool = False) -> None:
        self._engine = engine
        self._clock = clock
        self._tasks = tasks
        self._deliver = deliver
        self._is_shared = is_shared
        self._loop = asyncio.get_running_loop()
        self._under_way: set[tuple[str, str]] = set()
        self._paused: dict[tuple[str, str], float] = {}  # until when, in loop time
        self._timer: asyncio.TimerHandle | None = None
        self._wake_s = 0.0  # loop time of the timer
        self._comparison: asyncio.TimerHandle | None = None
        self._offset_s = 0.0  # from loop time to wall time, at the last look
        self._looking = False
        self._again = False
        self._is_running = False  # what is due before the start, or after the end, waits

    def start(self) -> None:
        self._is_running = True
        self._wake_in(0)
        self._compare()

    def close(self) -> None:
        self._is_running = False
        for timer in (self._timer, self._comparison):
            if timer is not None:
                timer.cancel()

    def committed(self, commit: Commit) -> None:
        """A commit changed the index: be awake in time for its earliest alarm."""
        due = [due_ms for due_ms in commit.alarms.values() if due_ms is not None]
        if due:
            self._wake_in((min(due) - self._clock.now_ms()) / 1000)

    def _compare(self) -> None:
        if abs(self._clocks_apart_s() - self._offset_s) > DRIFT_S:
            self._wake_in(0)
        self._comparison = self._loop.call_later(POLL_S, self._compare)

    def _clocks_apart_s(self) -> float:
        return self._clock.now_ms() / 1000 - self._loop.time()

    def _wake_in(self, delay_s: float) -> None:
        if not self._is_running:
            return
        wake_s = self._loop.time() + max(delay_s, 0)
        if self._timer is not None and not self._timer.cancelled() and self._wake_s <= wake_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wake_s = wake_s
        self._timer = self._loop.call_at(wake_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._looking:
            self._again = True
        else:
            self._looking = True
            self._tasks.start(self._look())

    async def _look(self) -> None:
        """Deliver what is due, and set the timer for what is not."""
        delay_s: float | None = PAUSE_S
        self._offset_s = self._clocks_apart_s()
        now_ms = self._clock.now_ms()
        try:
            # What is under way or paused stands first in the index until it has run: it must not hide what comes after.
            limit = min(UNDER_WAY_MAX + len(self._under_way) + len(self._paused), LOOK_MAX)
            rows = await self._engine.due(now_ms + int(PAUSE_S * 1000), limit)
            self._begin_all([row for row in rows if row.due_ms <= now_ms])
            soon_ms = next((row.due_ms for row in rows if row.due_ms > now_ms), None)
            if soon_ms is not None:  # before the next look
                delay_s = (soon_ms - self._clock.now_ms()) / 1000
            if not rows:
                next_ms = await self._engine.next_due_ms()
                delay_s = None if next_ms is None else (next_ms - self._clock.now_ms()) / 1000
        except EngineFailed as exc:
            log.error("alarms cannot be read and wait: %s", exc)
        if self._is_shared:
            delay_s = SHARED_POLL_S if delay_s is None else min(delay_s, SHARED_POLL_S)
        self._looking = False
        if self._again:
            delay_s = 0
        if delay_s is not None:
            self._wake_in(delay_s)
        self._again = False

    def _begin_all(self, rows: list[AlarmRow]) -> None:
        """Begin what may, and what has failed before after the rest."""
        now_s = self._loop.time()
        paused = self._paused
        self._paused = {key: paused[key] for key in map(_key, rows) if key in paused}  # the others are gone
        for row in [row for row in rows if _key(row) not in paused]:
            self._begin(row)
        for row in [row for row in rows if paused.get(_key(row), now_s + 1) <= now_s]:
            self._begin(row)

    def _begin(self, row: AlarmRow) -> None:
        key = _key(row)
        if key in self._under_way or len(self._under_way) >= UNDER_WAY_MAX:
            return
        self._paused.pop(key, None)
        self._under_way.add(key)
        self._deliver(row.actor, AlarmDue(row.name, row.due_ms)).add_done_callback(lambda reply: self._end(key, reply))

    def _end(self, key: tuple[str, str], reply: asyncio.Future[None]) -> None:
        self._under_way.discard(key)
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, Invalid):  # the application has lost the unit, which a new version may bring back
            log.warning("alarm %r of %s waits: %s; `stead actors delete` ends it", key[1], key[0], error)
            self._paused[key] = self._loop.time() + ORPHAN_PAUSE_S
        elif error is not None:
            log.warning("alarm %r of %s could not run and is tried again: %s", key[1], key[0], error)
            self._paused[key] = self._loop.time() + PAUSE_S
            self._wake_in(PAUSE_S)
        elif len(self._under_way) >= UNDER_WAY_MAX - 1:
            self._wake_in(0)  # others wait for a place


def _key(row: AlarmRow) -> tuple[str, str]:
    return row.actor.text, row.name
