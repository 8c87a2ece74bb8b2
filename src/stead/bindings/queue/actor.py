"""A share of a queue: one of the actors among which its messages are spread, or the one that keeps the dead letters.

Its messages lie in parcels (`depot.py`) by when they may be handed out; trying some of them again later moves these to a parcel of
their own.

**Pushing.** While messages are ready, spawned work takes batches of them to the observer, outside any turn, so that senders are not
held up by it. One turn settles a batch and takes the next. What is in an observer's hands is known in memory only: a crash hands it
out again. An alarm is set while there are messages, so something wakes the actor whatever dies.

**Pulling.** A lease is messages moved to when it ends; settling them in time needs their key, which changes with every lease.

**Ends.** A message that was done is deleted. One that failed too often, or became too old, moves to the dead letters, by a signal
in the turn that removes it here: it is never in neither place. Dead letters that become too old are deleted, and logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stead.api import AlarmInfo, durable, on_alarm, reads
from stead.bindings.queue.depot import PREFIX, Depot, key_of, ready_ms_of
from stead.bindings.queue.front import Front
from stead.bindings.queue.message import BATCH_MESSAGES_MAX, QueueSettings, message_id
from stead.bindings.queue.parcel import (
    PARCEL_MESSAGES_MAX,
    Outgoing,
    Parcel,
    Parcels,
    Retries,
    pack,
    portions,
    unpack_outgoing,
    unpack_retries,
)
from stead.clock import sleep
from stead.errors import Invalid, Overloaded, SteadError
from stead.ids import binding_name

DEAD_LETTERS = "dead"  # the actor's name
WATCH_MS = 10_000  # after which an alarm looks whether messages are left that nobody takes
LEASE_S_MAX = 12 * 3600.0
_ALARM = "queue"
_CONSUMER_GONE_PAUSE_S = 1.0
_RETRY_AFTER_S = 1.0


class QueueShard(Depot):
    settings: ClassVar[QueueSettings]

    paused: bool = durable(False)

    async def on_start(self) -> None:
        self._front = Front(PREFIX)
        self._alarm_ms: int | None = None  # when the alarm is due, if this instance knows
        self._pumps = 0
        self._arrived = asyncio.Event()

    # -- sending -------------------------------------------------------------------------------------------------------------------

    async def enqueue(self, batch: bytes) -> None:
        """Add messages, a packed list of `Outgoing`. Raises `Overloaded` when the shard is full."""
        sent = unpack_outgoing(batch)
        if self.count + sum(len(outgoing.bodies) for outgoing in sent) > self.settings.messages_max:
            limit = self.settings.messages_max
            raise Overloaded(
                f"the queue {self.settings.name!r} has {self.count:,} messages; the limit is {limit:,}", _RETRY_AFTER_S
            )
        now_ms = self._now_ms()
        for outgoing in sent:
            for bodies in portions(outgoing.bodies, min(self.settings.max_batch_size, PARCEL_MESSAGES_MAX)):
                numbers = self._numbers(len(bodies))
                parcel = Parcel(numbers, bodies, now_ms, outgoing.attempts, outgoing.content_type)
                await self._store(parcel, key_of(now_ms + round(outgoing.delay_s * 1000), numbers[0]))
        self._begin()

    # -- pulling and settling ------------------------------------------------------------------------------------------------------

    async def lease(self, limit: int, lease_s: float) -> bytes:
        """Take up to `limit` ready messages for `lease_s` seconds, after which they are ready again. Packed `Parcels`."""
        if not 0 < limit <= BATCH_MESSAGES_MAX or not 0 < lease_s <= LEASE_S_MAX:
            raise Invalid(f"a lease is of 1 to {BATCH_MESSAGES_MAX:,} messages, for up to {LEASE_S_MAX:,.0f} s")
        now_ms = self._now_ms()
        ready = await self._read(limit, end=key_of(now_ms + 1, 0))
        free = {key: part for key, parcel in ready.items() if (part := self._front.free(parcel)) is not None}
        leased = {}
        for parcel in await self._cut(_numbers_of(free)):
            if self._is_spent(parcel):
                await self._bury(parcel)
            else:
                leased[await self._move(parcel.tried(), now_ms + round(lease_s * 1000))] = parcel.tried()
        self._front.rewind()
        return pack(leased)

    async def settle_leased(self, done: dict[str, list[int]], again: dict[str, list[int]], delay_s: float | None = None) -> int:
        """What a consumer that pulls says of messages, by key and number; returns how many leases it still had."""
        retries = {number: delay_s for numbers in again.values() for number in numbers}
        return await self._settle(done, {}, counted=True) + await self._settle(again, retries, counted=True)

    # -- operating -----------------------------------------------------------------------------------------------------------------

    async def set_paused(self, paused: bool) -> None:
        self.paused = paused
        await self._watch_next()
        self._begin()

    async def purge(self) -> int:
        """Delete every message."""
        self._front.rewind()
        return await self._clear()

    async def replay(self, limit: int) -> int:
        """Send up to `limit` messages to the queue again, with their attempts forgotten: what dead letters are for."""
        replayed = await self._cut(_numbers_of(await self._read(limit)))
        await self._own_queue.take_over([Outgoing(parcel.bodies, parcel.content_type) for parcel in replayed])
        return sum(len(parcel.numbers) for parcel in replayed)

    @reads
    async def peek(self, limit: int) -> bytes:
        """The first `limit` messages, as packed `Parcels`."""
        return pack({key: parcel.tried() for key, parcel in (await self._read(limit)).items()})

    @reads
    async def status(self) -> dict[str, Any]:
        first = await self._first_key()
        waiting_ms = 0 if first is None else max(0, self._now_ms() - ready_ms_of(first))
        return {
            "messages": self.count,
            "in_hands": len(self._front.in_hands),
            "paused": self.paused,
            "oldest_s": waiting_ms / 1000,
            "observer": self._observer,
        }

    # -- waking --------------------------------------------------------------------------------------------------------------------

    @on_alarm(_ALARM)
    async def _look(self, alarm: AlarmInfo) -> None:
        self._alarm_ms = None
        self._front.rewind()
        await self._expire()
        await self._watch_next()
        self._begin()

    async def _watch_next(self) -> None:
        """Have an alarm set for the time when somebody should look again, as long as there are messages."""
        for start in (PREFIX, key_of(self._now_ms() + 1, 0)):
            key = await self._first_key(start)
            if key is not None:
                await self._watch(ready_ms_of(key))

    async def _watch(self, ready_ms: int) -> None:
        """Have an alarm set for the time when somebody should look after what is ready then."""
        now_ms = self._now_ms()
        if not self._is_pushed or self.paused:
            due_ms = ready_ms + self._retention_ms
        else:
            due_ms = ready_ms if ready_ms > now_ms else now_ms + WATCH_MS
        if self._alarm_ms is not None and self._alarm_ms <= due_ms:
            return
        alarm = await self.alarms.get(_ALARM)
        if alarm is None or alarm.dead or alarm.due_ms > due_ms:
            await self.alarms.set(_ALARM, due_ms)
            self._alarm_ms = due_ms
        else:
            self._alarm_ms = alarm.due_ms

    # -- pushing -------------------------------------------------------------------------------------------------------------------

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
            self._add_pump()

    def _add_pump(self) -> None:
        self._pumps += 1
        self.ctx.spawn(self._pump())

    async def _pump(self) -> None:
        """Take batches to the observer until none is ready; with more ready than one batch, more work begins beside this."""
        batch: dict[str, Parcel] = {}
        retries: Retries = {}
        is_working = True
        try:
            while is_working:
                self._arrived.clear()
                async with self.ctx.turn():
                    if batch:
                        await self._settle(_numbers_of(batch), retries, counted=False)
                        self._front.let_go(batch)
                    batch, wait_s = await self._take()
                    if not batch and (wait_s == 0 or self._pumps > 1):  # one is enough to wait for more
                        is_working = False
                        self._pumps -= 1  # in the turn: what arrives after it begins anew
                if batch:
                    retries = await self._hand_over(batch)
                elif is_working:
                    await _wait(self._arrived, wait_s)
        finally:
            if batch:
                self._front.let_go(batch)
                self._front.rewind()
            if is_working:
                self._pumps -= 1

    async def _take(self) -> tuple[dict[str, Parcel], float]:
        """The next batch: as many as it may hold, or fewer once the first has waited for long enough.

        If none is due, in how many seconds one will be; 0 if nothing is there.
        """
        front, size, now_ms = self._front, self.settings.max_batch_size, self._now_ms()
        if self.paused:
            return {}, 0.0
        await self._read_ahead(size + 1, now_ms)  # one more tells that there is another batch
        if front.first_key is None:
            return {}, 0.0
        wait_s = (ready_ms_of(front.first_key) - now_ms) / 1000 + self.settings.max_batch_timeout_s
        if front.messages < size and wait_s > 0:
            return {}, wait_s
        batch = front.take(size)
        if front.messages and self._pumps < self.settings.max_concurrency:
            self._add_pump()
        return batch, 0.0

    async def _read_ahead(self, messages: int, now_ms: int) -> None:
        front, end, goes_on = self._front, key_of(now_ms + 1, 0), True
        while goes_on and front.messages < messages:
            page, goes_on = await self._page(front.read_until, end)
            front.add(page)

    async def _hand_over(self, batch: Parcels) -> Retries:
        """What the observer wants to get again. If it cannot be reached, none of it counts as an attempt."""
        assert self.settings.consumer is not None
        parcels = pack([parcel.tried() for parcel in batch.values()])
        while True:
            try:
                observer = getattr(self.env, binding_name(self.settings.consumer))
                return unpack_retries(await observer.deliver(self.id.text, parcels))
            except SteadError as exc:
                self.env.logger.error("the observer of a queue cannot be reached", queue=self.settings.name, error=str(exc))
                await sleep(_CONSUMER_GONE_PAUSE_S)

    # -- what becomes of messages --------------------------------------------------------------------------------------------------

    async def _settle(self, numbers: Mapping[str, Sequence[int]], retries: Retries, *, counted: bool) -> int:
        """Delete what is done, move what is not, and say how many there were. `counted`: the attempt is in the parcels already."""
        found = await self._cut(numbers)
        for parcel in found if retries else ():
            for delay_s, part in _by_delay(parcel, retries):
                failed = part if counted else part.tried()
                if self._is_spent(failed):
                    await self._bury(failed)
                else:
                    later_s = self.settings.retry_delay_s if delay_s is None else delay_s
                    await self._move(failed, self._now_ms() + round(later_s * 1000))
        return sum(len(parcel.numbers) for parcel in found)

    async def _expire(self) -> None:
        """Let go of what is older than the retention."""
        oldest_ms = self._now_ms() - self._retention_ms
        for parcel in await self._cut(_numbers_of(await self._read(BATCH_MESSAGES_MAX, end=key_of(oldest_ms + 1, 0)))):
            if self.id.name != DEAD_LETTERS:
                await self._bury(parcel)
            else:
                letters = [message_id(self.id.text, number) for number in parcel.numbers]
                self.env.logger.warn("dead letters were too old and are gone", queue=self.settings.name, letters=letters)

    def _is_spent(self, parcel: Parcel) -> bool:
        return parcel.attempts > self.settings.max_retries and self.id.name != DEAD_LETTERS

    async def _bury(self, parcel: Parcel) -> None:
        if self.settings.dead_letter_queue is None:
            await self._own_queue.bury([Outgoing(parcel.bodies, parcel.content_type, attempts=parcel.attempts)])
        else:
            letters = getattr(self.env, binding_name(self.settings.dead_letter_queue))
            await letters.take_over([Outgoing(parcel.bodies, parcel.content_type)])

    @property
    def _own_queue(self) -> Any:
        return getattr(self.env, binding_name(self.settings.name))

    async def _store(self, parcel: Parcel, key: str) -> None:
        await self._put(parcel, key)
        if key < self._front.read_until:  # the clock was set back
            self._front.rewind()
        await self._watch(ready_ms_of(key))

    async def _move(self, parcel: Parcel, ready_ms: int) -> str:
        """Store what was cut, to be ready at another time; returns its new key."""
        key = key_of(ready_ms, self._numbers(1)[0])
        await self._store(parcel, key)
        return key

    @property
    def _retention_ms(self) -> int:
        return round(self.settings.retention_s * 1000)

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)


def queue_class(settings: QueueSettings) -> type[QueueShard]:
    """The class of the actors of one queue."""
    return type("QueueShard", (QueueShard,), {"settings": settings, "__module__": __name__})


def _numbers_of(parcels: Parcels) -> dict[str, list[int]]:
    return {key: parcel.numbers for key, parcel in parcels.items()}


def _by_delay(parcel: Parcel, retries: Retries) -> list[tuple[float | None, Parcel]]:
    """Those of the messages that are to be tried again, together where the delay is the same."""
    groups: dict[float | None, list[int]] = {}
    for number in parcel.numbers:
        if number in retries:
            groups.setdefault(retries[number], []).append(number)
    return [(delay_s, part) for delay_s, numbers in groups.items() if (part := parcel.divide(numbers)[0]) is not None]


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
