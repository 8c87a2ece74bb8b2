"""A share of a queue: one of the actors among which its messages are spread, or the one that keeps the dead letters.

    q:<ready ms>:<number>    a message, a packed `Row`, by when it may be handed out; trying again later moves it

**Pushing.** While messages are ready, spawned work takes batches of them to the observer, outside any turn, so that senders are not
held up by it, and settles each batch in a turn. What is in an observer's hands is known in memory only: a crash hands it out again.
An alarm is set while there are messages, so something wakes the actor whatever dies.

**Pulling.** A lease is a message moved to when the lease ends; settling it in time needs its key, which changes with every lease.

**Ends.** A message that was done is deleted. One that failed too often, or became too old, moves to the dead letters, by a signal
in the turn that removes it here: it is never in neither place. Dead letters that become too old are deleted, and logged.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from stead.api import Actor, AlarmInfo, durable, on_alarm, reads
from stead.bindings.queue.message import (
    BATCH_MESSAGES_MAX,
    Leased,
    Outgoing,
    QueueSettings,
    Row,
    Verdict,
    pack,
    unpack_outgoing,
    unpack_row,
    unpack_verdicts,
)
from stead.clock import sleep
from stead.errors import Invalid, Overloaded, SteadError
from stead.ids import binding_name

DEAD_LETTERS = "dead"  # the actor's name
WATCH_MS = 10_000  # after which an alarm looks whether messages are left that nobody takes
LEASE_S_MAX = 12 * 3600.0
_ALARM = "queue"
_PREFIX = "q:"
_TIME_DIGITS, _NUMBER_DIGITS = 15, 12
_CONSUMER_GONE_PAUSE_S = 1.0
_RETRY_AFTER_S = 1.0


class QueueShard(Actor):
    settings: ClassVar[QueueSettings]

    last_number: int = durable(0)
    count: int = durable(0)
    paused: bool = durable(False)

    async def on_start(self) -> None:
        self._in_hands: set[str] = set()  # keys of messages that observers have
        self._ahead: dict[str, Row] = {}  # read and not handed out yet, in their order
        self._read_until = _PREFIX
        self._alarm_ms: int | None = None  # when the alarm that this instance set is due
        self._pumps = 0
        self._arrived = asyncio.Event()

    # -- sending -------------------------------------------------------------------------------------------------------------------

    async def enqueue(self, batch: bytes) -> None:
        """Add messages, a packed list of `Outgoing`. Raises `Overloaded` when the shard is full."""
        messages = unpack_outgoing(batch)
        if self.count + len(messages) > self.settings.messages_max:
            limit = self.settings.messages_max
            raise Overloaded(
                f"the queue {self.settings.name!r} has {self.count:,} messages; the limit is {limit:,}", _RETRY_AFTER_S
            )
        now_ms = self._now_ms()
        rows = {}
        for message in messages:
            self.last_number += 1
            key = _key(now_ms + round(message.delay_s * 1000), self.last_number)
            identity = f"{self.id.name}-{self.last_number}"
            rows[key] = pack(Row(identity, now_ms, message.attempts, message.content_type, message.body))
        self.count += len(messages)
        await self.storage.put_many(rows)
        await self._watch()
        self._begin()

    # -- pulling and settling ------------------------------------------------------------------------------------------------------

    async def lease(self, limit: int, lease_s: float) -> list[Leased]:
        """Take up to `limit` ready messages for `lease_s` seconds, after which they are ready again."""
        if not 0 < limit <= BATCH_MESSAGES_MAX or not 0 < lease_s <= LEASE_S_MAX:
            raise Invalid(f"a lease is of 1 to {BATCH_MESSAGES_MAX:,} messages, for up to {LEASE_S_MAX:,.0f} s")
        now_ms = self._now_ms()
        leased = []
        for key, row in (await self._ready(limit)).items():
            held = await self._move(key, msgspec.structs.replace(row, attempts=row.attempts + 1), now_ms + round(lease_s * 1000))
            leased.append(Leased(held, row.id, row.sent_ms, row.attempts + 1, row.content_type, row.body))
        return leased

    async def settle_leased(self, verdicts: Sequence[Verdict]) -> int:
        """What a consumer that pulls says; returns how many leases it still had."""
        held = [verdict for verdict in verdicts if await self.storage.get(verdict.key) is not None]
        await self._settle(held, counted=True)
        return len(held)

    # -- operating -----------------------------------------------------------------------------------------------------------------

    async def set_paused(self, paused: bool) -> None:
        self.paused = paused
        await self._watch()
        self._begin()

    async def purge(self) -> int:
        """Delete every message."""
        removed = await self.storage.delete_many(list(await self.storage.list(_PREFIX)))
        self.count = 0
        self._ahead.clear()
        return removed

    async def replay(self, limit: int) -> int:
        """Send up to `limit` messages to the queue again, with their attempts forgotten: what dead letters are for."""
        rows = await self.storage.list(_PREFIX, limit=limit)
        messages = [Outgoing(row.body, row.content_type) for row in map(unpack_row, rows.values())]
        await self._own_queue.take_over(messages)
        await self._remove(list(rows))
        return len(rows)

    @reads
    async def peek(self, limit: int) -> list[Leased]:
        rows = await self.storage.list(_PREFIX, limit=limit)
        return [unpack_row(row).leased(key) for key, row in rows.items()]

    @reads
    async def status(self) -> dict[str, Any]:
        first = next(iter(await self.storage.list(_PREFIX, limit=1)), None)
        waiting_ms = 0 if first is None else max(0, self._now_ms() - _ready_ms(first))
        return {
            "messages": self.count,
            "in_hands": len(self._in_hands),
            "paused": self.paused,
            "oldest_s": waiting_ms / 1000,
            "observer": self._observer,
        }

    # -- pushing -------------------------------------------------------------------------------------------------------------------

    @on_alarm(_ALARM)
    async def _look(self, alarm: AlarmInfo) -> None:
        self._alarm_ms = None
        await self._expire()
        await self._watch()
        self._begin()

    async def _watch(self) -> None:
        """Have an alarm set for the time when somebody should look again, as long as there are messages."""
        if self._alarm_ms is not None and self._alarm_ms <= self._now_ms() + WATCH_MS:
            return
        first = next(iter(await self.storage.list(_PREFIX, limit=1)), None)
        if first is None:
            return
        pushes = self._is_pushed and not self.paused
        due_ms = max(_ready_ms(first), self._now_ms() + WATCH_MS) if pushes else _ready_ms(first) + self._retention_ms
        alarm = await self.alarms.get(_ALARM)
        if alarm is None or alarm.dead or alarm.due_ms > due_ms:
            await self.alarms.set(_ALARM, due_ms)
            self._alarm_ms = due_ms

    @property
    def _observer(self) -> str | None:
        return None if self.settings.consumer is None else self.settings.consumer.partition(".")[0]

    @property
    def _is_pushed(self) -> bool:
        return self.settings.consumer is not None and self.id.name != DEAD_LETTERS

    def _begin(self) -> None:
        """Have work going that takes messages to the observer."""
        self._arrived.set()
        if self._is_pushed and not self.paused and self._pumps == 0:
            self._pumps += 1
            self.ctx.spawn(self._pump())

    async def _pump(self) -> None:
        """Take batches to the observer until none is ready; with more ready than one batch, more work begins beside this."""
        try:
            while batch := await self._take():
                try:
                    verdicts = await self._hand_over(batch)
                    async with self.ctx.turn():
                        await self._settle(verdicts, counted=False)
                finally:
                    self._in_hands.difference_update(message.key for message in batch)
        finally:
            self._pumps -= 1

    async def _take(self) -> list[Leased]:
        """The next batch: as many as it may hold, or fewer once the first has waited for long enough."""
        size, timeout_ms = self.settings.max_batch_size, round(self.settings.max_batch_timeout_s * 1000)
        while True:
            self._arrived.clear()
            async with self.ctx.turn():
                if self.paused:
                    return []
                ready = await self._ready(2 * size)
                batch = list(ready.items())[:size]
                is_due = bool(batch) and (len(batch) == size or _ready_ms(batch[0][0]) + timeout_ms <= self._now_ms())
                if is_due:
                    for key, _ in batch:
                        self._in_hands.add(key)
                        del self._ahead[key]
                    if len(ready) > size and self._pumps < self.settings.max_concurrency:
                        self._pumps += 1
                        self.ctx.spawn(self._pump())
                    return [row.leased(key) for key, row in batch]
                if not batch or self._pumps > 1:  # one is enough to wait for more
                    await self._watch()
                    return []
                wait_s = (_ready_ms(batch[0][0]) + timeout_ms - self._now_ms()) / 1000
            await _wait(self._arrived, wait_s)

    async def _hand_over(self, batch: list[Leased]) -> list[Verdict]:
        """What the observer says of each message. If it cannot be reached, none of it counts as an attempt."""
        assert self.settings.consumer is not None
        while True:
            try:
                return unpack_verdicts(await getattr(self.env, binding_name(self.settings.consumer)).deliver(pack(batch)))
            except SteadError as exc:
                self.env.logger.error("the observer of a queue cannot be reached", queue=self.settings.name, error=str(exc))
                await sleep(_CONSUMER_GONE_PAUSE_S)

    # -- what becomes of messages --------------------------------------------------------------------------------------------------

    async def _settle(self, verdicts: Sequence[Verdict], *, counted: bool) -> None:
        """Delete what is done, and move what is not. `counted`: the attempt is in the row already."""
        now_ms = self._now_ms()
        await self._remove([verdict.key for verdict in verdicts if verdict.is_done])
        for verdict in verdicts:
            stored = None if verdict.is_done else await self.storage.get(verdict.key)
            if stored is None:  # done, or purged meanwhile
                continue
            row = unpack_row(stored)
            if not counted:
                row = msgspec.structs.replace(row, attempts=row.attempts + 1)
            if row.attempts > self.settings.max_retries and self.id.name != DEAD_LETTERS:
                await self._bury(verdict.key, row)
            else:
                delay_s = self.settings.retry_delay_s if verdict.delay_s is None else verdict.delay_s
                await self._move(verdict.key, row, now_ms + round(delay_s * 1000))
        await self._watch()

    async def _expire(self) -> None:
        """Let go of what is older than the retention."""
        oldest_ms = self._now_ms() - self._retention_ms
        for key, stored in (await self.storage.list(_PREFIX, end=_key(oldest_ms + 1, 0), limit=BATCH_MESSAGES_MAX)).items():
            row = unpack_row(stored)
            if self.id.name != DEAD_LETTERS:
                await self._bury(key, row)
            else:
                self.env.logger.warn("a dead letter was too old and is gone", queue=self.settings.name, letter=row.id)
                await self._remove([key])

    async def _bury(self, key: str, row: Row) -> None:
        if self.settings.dead_letter_queue is None:
            await self._own_queue.bury([Outgoing(row.body, row.content_type, attempts=row.attempts)])
        else:
            letters = getattr(self.env, binding_name(self.settings.dead_letter_queue))
            await letters.take_over([Outgoing(row.body, row.content_type)])
        await self._remove([key])

    @property
    def _own_queue(self) -> Any:
        return getattr(self.env, binding_name(self.settings.name))

    async def _remove(self, keys: Sequence[str]) -> None:
        self.count -= await self.storage.delete_many(keys)
        for key in keys:
            self._ahead.pop(key, None)

    async def _move(self, key: str, row: Row, ready_ms: int) -> str:
        """Store a message to be ready at another time; returns its new key."""
        moved = _key(ready_ms, int(key.rpartition(":")[2]))
        await self.storage.delete(key)
        await self.storage.put(moved, pack(row))
        self._ahead.pop(key, None)
        return moved

    async def _ready(self, limit: int) -> dict[str, Row]:
        """Messages that may be handed out now, the longest ready first."""
        if len(self._ahead) < limit:
            await self._read_ahead(limit)
        return dict(itertools.islice(self._ahead.items(), limit))

    async def _read_ahead(self, count: int) -> None:
        """Read on from where the last reading ended: what is in hands lies before that.

        At the end begin anew, for what was let go, or put there by a clock that was set back.
        """
        end = _key(self._now_ms() + 1, 0)
        rows = await self.storage.list(_PREFIX, start_after=self._read_until, end=end, limit=count)
        if len(rows) < count:
            self._ahead.clear()
            rows = await self.storage.list(_PREFIX, end=end, limit=count + len(self._in_hands))
        self._ahead.update({key: unpack_row(row) for key, row in rows.items() if key not in self._in_hands})
        self._read_until = next(reversed(rows), _PREFIX)

    @property
    def _retention_ms(self) -> int:
        return round(self.settings.retention_s * 1000)

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)


def queue_class(settings: QueueSettings) -> type[QueueShard]:
    """The class of the actors of one queue."""
    return type("QueueShard", (QueueShard,), {"settings": settings, "__module__": __name__})


def _key(ready_ms: int, number: int) -> str:
    return f"{_PREFIX}{ready_ms:0{_TIME_DIGITS}}:{number:0{_NUMBER_DIGITS}}"


def _ready_ms(key: str) -> int:
    return int(key[len(_PREFIX) : len(_PREFIX) + _TIME_DIGITS])


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
