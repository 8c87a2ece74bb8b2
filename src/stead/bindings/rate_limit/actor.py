"""The actor behind one key of a rate limiter.

It counts in memory: a limit that waited for the disk would cost more than what it protects. It stays there for longer than the
period needs, so forgetting is letting nobody pass who would have been stopped; only a restart or a shortage of memory starts anew.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from stead.api import Actor, reads
from stead.logic.limiting import Meter, SlidingWindow, TokenBucket, Verdict

_REMEMBERED_PERIODS = 2  # a sliding window looks back for two


class Algorithm(StrEnum):
    """How requests are counted."""

    TOKEN_BUCKET = "token_bucket"
    SLIDING_WINDOW = "sliding_window"


class RateLimit(msgspec.Struct, frozen=True):
    """At most `limit` in `period_s` seconds for each key."""

    limit: int
    period_s: float
    algorithm: Algorithm = Algorithm.TOKEN_BUCKET


class _Meter(Actor):
    settings: ClassVar[RateLimit]
    _meter: Meter

    async def on_start(self) -> None:
        kind = SlidingWindow if self.settings.algorithm is Algorithm.SLIDING_WINDOW else TokenBucket
        self._meter = kind(self.settings.limit, self.settings.period_s, self._now_s())

    @reads
    async def take(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self._meter.take(self._now_s()))

    def _now_s(self) -> float:
        return self.env.now().timestamp()


def meter_class(settings: RateLimit) -> type[Actor]:
    """The class of the actors of one rate limiter."""
    members = {"settings": settings, "hibernate_after_s": max(10.0, _REMEMBERED_PERIODS * settings.period_s)}
    return type("RateLimitMeter", (_Meter,), members)


__all__ = ["Algorithm", "RateLimit", "Verdict", "meter_class"]
