"""When a failed alarm runs again."""

from __future__ import annotations

RETRIES_MAX = 6  # after the first run; then the alarm is dead
_FIRST_MS = 2_000
_JITTER = 0.25  # at most this share is added, so that what failed together does not come back together


def retry_delay_ms(failures: int, fraction: float) -> int | None:
    """Milliseconds to wait after the n-th failure (from 1), doubling from 2 s; None when it has failed for the last time.

    `fraction` is a random number in 0 <= x < 1.
    """
    if failures > RETRIES_MAX:
        return None
    delay_ms = _FIRST_MS << (failures - 1)
    return delay_ms + int(delay_ms * _JITTER * fraction)
