"""How many requests may pass: a token bucket and a sliding window, as values that step from one moment to the next.

Both let `limit` requests pass in a period. The bucket fills evenly, so who paused may send `limit` at once and then one each
`period / limit`. The window estimates what passed in the period that ends now, from the counts of the present and the previous
fixed period, as if those of the previous one had come evenly: two numbers instead of a list of times.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass, and if not, when the next try makes sense."""

    success: bool
    retry_after_s: float
    remaining: int  # that could pass now


class Meter(Protocol):
    """What counts for one key. `take` is called with times that never go back."""

    def take(self, now_s: float) -> Verdict: ...


class TokenBucket:
    def __init__(self, limit: int, period_s: float, now_s: float) -> None:
        self._limit = limit
        self._rate = limit / period_s
        self._tokens = float(limit)
        self._at_s = now_s

    def take(self, now_s: float) -> Verdict:
        """One token, if there is one."""
        self._tokens = min(float(self._limit), self._tokens + max(0.0, now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return Verdict(True, 0.0, int(self._tokens))
        return Verdict(False, (1.0 - self._tokens) / self._rate, 0)


class SlidingWindow:
    def __init__(self, limit: int, period_s: float, now_s: float) -> None:
        self._limit = limit
        self._period_s = period_s
        self._began_s = now_s
        self._now = self._before = 0

    def take(self, now_s: float) -> Verdict:
        """A place in the period that ends now, if there is one."""
        self._turn_over(now_s)
        share_s = now_s - self._began_s
        weight = self._before * (1.0 - share_s / self._period_s) + self._now
        if weight + 1.0 <= self._limit:
            self._now += 1
            return Verdict(True, 0.0, int(self._limit - weight - 1.0))
        return Verdict(False, self._wait_s(share_s), 0)

    def _turn_over(self, now_s: float) -> None:
        periods = int(max(0.0, now_s - self._began_s) // self._period_s)
        if periods:
            self._before, self._now = (self._now, 0) if periods == 1 else (0, 0)
            self._began_s += periods * self._period_s

    def _wait_s(self, share_s: float) -> float:
        """Until the weight of the past has gone down by what is too much: in this period, or as the previous one of the next."""
        if self._now + 1 <= self._limit:
            return self._period_s * (1.0 - (self._limit - 1.0 - self._now) / self._before) - share_s
        return self._period_s * (2.0 - (self._limit - 1.0) / self._now) - share_s
