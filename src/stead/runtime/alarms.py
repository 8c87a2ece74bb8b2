"""An actor's alarms: rows among its entries, so they commit with the turn that sets them, and an index that the engine keeps.

A run begins by taking the row out, or by moving a recurring one to its next occurrence; that is part of the turn's last commit, and
of none that the handler makes on its way by calling out.
A run that fails rolls back, which puts the row back, and a turn of its own counts the failure and sets the next attempt. So the
process may die anywhere: the row is there until a run has been committed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from stead import codec
from stead.api import Alarm, AlarmInfo
from stead.clock import Clock, When, moment_ms
from stead.errors import Invalid
from stead.events import AlarmDue
from stead.ids import Chance
from stead.logic.recurrence import EVERY_MS_MIN, next_cron_ms, next_every_ms
from stead.logic.retry import RETRIES_MAX, retry_delay_ms
from stead.redaction import redacted
from stead.runtime.turn import Turn
from stead.storage.contract import KEY_BYTES_MAX
from stead.storage.entries import ALARM, Entries, Layer, range_end

ERROR_CHARS_MAX = 500  # of the last error kept with an alarm


class Host(Protocol):
    """What alarms ask of their actor."""

    @property
    def entries(self) -> Entries: ...
    async def writable(self, what: str) -> Turn: ...
    async def readable(self, what: str) -> Turn: ...


class AlarmRow(msgspec.Struct, array_like=True):
    """An alarm as it is stored. `scheduled_ms` stays while retries move `due_ms`."""

    due_ms: int
    scheduled_ms: int
    payload: bytes
    every_ms: int | None = None
    cron: str | None = None
    failures: int = 0
    dead: bool = False
    error: str | None = None
    timezone: str = "UTC"  # of the cron expression


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AlarmRow).decode


class ActorAlarms:
    """`self.alarms`, and how a run of an alarm begins and fails."""

    def __init__(self, host: Host, clock: Clock, chance: Chance, handled: Callable[[str], bool]) -> None:
        self._host = host
        self._clock = clock
        self._chance = chance
        self._handled = handled

    async def set(
        self,
        name: str,
        when: When | None = None,
        payload: object = None,
        every: timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
    ) -> None:
        turn = await self._host.writable("alarms.set()")
        if not self._handled(name):
            raise Invalid(f"an alarm needs an alarm() method on the class to call, or one marked @on_alarm({name!r})")
        now_ms = self._clock.now_ms()
        every_ms = None if every is None else every // timedelta(milliseconds=1)
        due_ms = _first_ms(when, every_ms, cron, timezone, now_ms)
        row = AlarmRow(due_ms, due_ms, codec.encode(payload, codec.VALUE_BYTES_MAX), every_ms, cron, timezone=timezone)
        self._write(turn, name, row)

    async def get(self, name: str) -> Alarm | None:
        turn = await self._host.readable("alarms.get()")
        row = await self._row(turn, name)
        return None if row is None else _alarm(name, row)

    async def list(self) -> list[Alarm]:
        turn = await self._host.readable("alarms.list()")
        rows = await self._host.entries.scan(ALARM, range_end(ALARM), turn.layers)
        return [_alarm(key[1:].decode(), _decode(data)) for key, data in rows]

    async def cancel(self, name: str) -> bool:
        turn = await self._host.writable("alarms.cancel()")
        if await self._row(turn, name) is None:
            return False
        self._write(turn, name, None)
        return True

    async def retry(self, name: str) -> bool:
        turn = await self._host.writable("alarms.retry()")
        row = await self._row(turn, name)
        if row is None:
            return False
        row.due_ms, row.failures, row.dead = self._clock.now_ms(), 0, False
        self._write(turn, name, row)
        return True

    async def begin(self, turn: Turn, event: AlarmDue) -> AlarmInfo | None:
        """What the handler is told; None for an early wake, or an alarm that was moved, cancelled or is dead."""
        row = await self._row(turn, event.name)
        now_ms = self._clock.now_ms()
        if row is None or row.dead or row.due_ms > now_ms:
            return None
        following = _next(row, now_ms)
        self._write(turn, event.name, following)
        turn.final = Layer()
        self._put(turn.final, event.name, following)
        return AlarmInfo(event.name, datetime.fromtimestamp(row.scheduled_ms / 1000, UTC), codec.decode(row.payload), row.failures)

    async def fail(self, turn: Turn, event: AlarmDue, error: BaseException) -> None:
        """Count a failed run: try again later, or declare the alarm dead."""
        row = await self._row(turn, event.name)
        if row is None or row.dead or row.due_ms > self._clock.now_ms():  # the run had set another in its place
            return
        row.failures += 1
        row.error = redacted(f"{type(error).__name__}: {error}")[:ERROR_CHARS_MAX]
        delay_ms = retry_delay_ms(row.failures, self._chance.fraction())
        if delay_ms is None:
            row.dead = True
        else:
            row.due_ms = self._clock.now_ms() + delay_ms
        self._write(turn, event.name, row)

    async def _row(self, turn: Turn, name: str) -> AlarmRow | None:
        data = await self._host.entries.get(_key(name), turn.layers)
        return None if data is None else _decode(data)

    def _write(self, turn: Turn, name: str, row: AlarmRow | None) -> None:
        self._put(turn.layer, name, row)

    def _put(self, layer: Layer, name: str, row: AlarmRow | None) -> None:
        layer.writes[_key(name)] = None if row is None else _encode(row)
        layer.alarms[name] = None if row is None or row.dead else row.due_ms


def _key(name: str) -> bytes:
    if not isinstance(name, str):
        raise Invalid(f"an alarm's name must be str, got {type(name).__name__}")
    if name.startswith("\0"):
        raise Invalid("an alarm's name may not begin with a null character: Stead's own alarms do")
    try:
        key = ALARM + name.encode()
    except UnicodeEncodeError as exc:
        raise Invalid("an alarm's name must be valid Unicode (it holds a lone surrogate)") from exc
    if len(key) > KEY_BYTES_MAX:
        raise Invalid(f"an alarm's name may have {KEY_BYTES_MAX - 1:,} bytes, this one has {len(key) - 1:,}")
    return key


def _first_ms(when: When | None, every_ms: int | None, cron: str | None, timezone: str, now_ms: int) -> int:
    if every_ms is not None and cron is not None:
        raise Invalid("an alarm recurs either every=… or by cron=…, not both")
    if cron is None and timezone != "UTC":
        raise Invalid("timezone is for cron=…, whose fields it says the time zone of")
    if every_ms is not None and every_ms < EVERY_MS_MIN:
        raise Invalid(f"every must be at least {EVERY_MS_MIN // 1000} s")
    first_ms = next_cron_ms(cron, now_ms, timezone) if cron is not None else None  # also checks the expression
    if when is not None:
        return max(moment_ms(when, now_ms), now_ms)
    if first_ms is None and every_ms is None:
        raise Invalid("an alarm needs when, every=… or cron=…")
    return first_ms if first_ms is not None else now_ms + (every_ms or 0)


def _next(row: AlarmRow, now_ms: int) -> AlarmRow | None:
    """The row of the next occurrence, None for an alarm that does not recur."""
    if row.cron is not None:
        due_ms = next_cron_ms(row.cron, max(now_ms, row.scheduled_ms), row.timezone)
    elif row.every_ms is not None:
        due_ms = next_every_ms(row.scheduled_ms, row.every_ms, now_ms)
    else:
        return None
    return AlarmRow(due_ms, due_ms, row.payload, row.every_ms, row.cron, timezone=row.timezone)


def _alarm(name: str, row: AlarmRow) -> Alarm:
    every = None if row.every_ms is None else timedelta(milliseconds=row.every_ms)
    retries = min(row.failures, RETRIES_MAX)
    return Alarm(name, row.due_ms, codec.decode(row.payload), every, row.cron, retries, row.dead, row.error, row.timezone)
