"""Moments as users give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from stead.clock import SystemClock, moment_ms
from stead.errors import Invalid

NOW_MS = 1_767_225_600_000


@pytest.mark.parametrize(
    ("when", "expected_ms"),
    [
        (timedelta(hours=1), NOW_MS + 3_600_000),
        (timedelta(microseconds=1999), NOW_MS + 1),
        (timedelta(hours=-1), NOW_MS - 3_600_000),
        (datetime(2026, 1, 1, tzinfo=UTC), NOW_MS),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), NOW_MS),
        (datetime(2026, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), NOW_MS + 1),
        (NOW_MS, NOW_MS),
    ],
)
def test_every_way_to_name_a_moment(when: Any, expected_ms: int) -> None:
    """A distance from now, an aware datetime in any zone, and milliseconds since 1970."""
    assert moment_ms(when, NOW_MS) == expected_ms


@pytest.mark.parametrize(
    "when", [datetime(2026, 1, 1), 0, -1, True, 1.5, "soon", None, 10**15, timedelta(days=10**7), timedelta(days=-30_000)]
)
def test_a_wrong_moment_is_invalid(when: Any) -> None:
    """Naive datetimes, what is no moment, and what lies outside the years 1970 to 9999."""
    with pytest.raises(Invalid):
        moment_ms(when, NOW_MS)


def test_the_system_clock() -> None:
    """Wall time is after this was written; elapsed time does not go back."""
    clock = SystemClock()
    assert clock.now_ms() > NOW_MS - 86_400_000
    assert clock.elapsed_s() <= clock.elapsed_s()
