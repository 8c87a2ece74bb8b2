"""The only reader of time.

Two times exist. *Wall* time, in milliseconds since 1970, is what users set alarms to; it may jump. *Loop* time, in seconds, only
goes forward and measures how long something took or may take. Under the test kit's loop both are virtual.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from stead.errors import Invalid


class Clock(Protocol):
    """What the time is. Implementations: `SystemClock` here, the virtual clock of `stead.testing`."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970; it may jump either way."""
        ...

    def elapsed_s(self) -> float:
        """Seconds since some fixed moment; it never goes back, and goes on while the process is stopped."""
        ...


# A lease has to run out while a laptop or a virtual machine sleeps, and `monotonic` stands still then on Linux.
if sys.platform == "linux":
    _elapsed_s = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    _elapsed_s = time.monotonic  # noqa: TID251 - the one reader


class SystemClock:
    """The machine's clock. Where the system can, `elapsed_s` counts the time in which the machine was suspended, too."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251 - the one reader

    def elapsed_s(self) -> float:
        return _elapsed_s()


async def sleep(duration_s: float) -> None:
    """Wait on the running loop's clock, virtual under the test kit."""
    await asyncio.sleep(duration_s)  # noqa: TID251 - the one place


When = datetime | timedelta | int
"""A moment as users give it: an aware `datetime`, a `timedelta` from now, or milliseconds since 1970."""

_MOMENT_MS_MAX = 253_402_300_799_000  # the last second of the year 9999, the last a datetime can show


def moment_ms(when: When, now_ms: int) -> int:
    """`when` as wall milliseconds. Raises `Invalid` for a naive datetime or a moment outside the years 1970 to 9999."""
    if isinstance(when, timedelta):
        moment = now_ms + when // timedelta(milliseconds=1)
    elif isinstance(when, datetime):
        if when.tzinfo is None:
            raise Invalid("a datetime needs a time zone here: datetime.now(UTC) rather than datetime.now()")
        moment = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    elif isinstance(when, int) and not isinstance(when, bool):
        moment = when
    else:
        raise Invalid(f"a moment is a datetime, a timedelta or milliseconds since 1970, not {type(when).__name__}")
    if not 0 < moment <= _MOMENT_MS_MAX:
        raise Invalid(f"{when!r} is outside the years 1970 to 9999")
    return moment
