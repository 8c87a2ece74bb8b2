"""When a recurring alarm is due next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.errors import Invalid
from stead.logic.recurrence import next_cron_ms, next_every_ms


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@given(st.integers(0, 10**12), st.integers(1_000, 10**9), st.integers(0, 10**13))
def test_every_keeps_its_beat(scheduled_ms: int, every_ms: int, now_ms: int) -> None:
    """The next moment is on the beat, after the last one and in the future, and there is none between."""
    due_ms = next_every_ms(scheduled_ms, every_ms, now_ms)
    assert (due_ms - scheduled_ms) % every_ms == 0
    assert due_ms > max(scheduled_ms, now_ms)
    assert due_ms - every_ms <= max(scheduled_ms, now_ms)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("*/15 * * * *", (2026, 1, 1, 0, 0), (2026, 1, 1, 0, 15)),
        ("0 9 * * 1", (2026, 1, 1), (2026, 1, 5, 9)),
        ("@daily", (2026, 2, 28, 12), (2026, 3, 1)),
        ("@yearly", (2026, 1, 1), (2027, 1, 1)),
        ("0 0 29 2 *", (2026, 1, 1), (2028, 2, 29)),
    ],
)
def test_cron(expression: str, after: tuple[int, ...], due: tuple[int, ...]) -> None:
    """Five fields or a nickname, in UTC; a moment that matches is not its own successor."""
    assert next_cron_ms(expression, ms(*after)) == ms(*due)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("30 2 * * *", (2024, 3, 30, 12), (2024, 3, 31, 1, 0)),  # 02:30 is skipped: 03:00, the first moment behind the gap
        ("30 2 * * *", (2024, 3, 31, 1, 0), (2024, 4, 1, 0, 30)),
        ("30 2 * * *", (2024, 10, 26, 12), (2024, 10, 27, 0, 30)),  # 02:30 comes twice: the first time
        ("30 2 * * *", (2024, 10, 27, 0, 30), (2024, 10, 28, 1, 30)),
        ("30 * * * *", (2024, 10, 27, 0, 30), (2024, 10, 27, 1, 30)),  # every hour is every hour
        (" @Daily", (2024, 7, 1), (2024, 7, 1, 22)),
    ],
)
def test_cron_in_a_time_zone(expression: str, after: tuple[int, ...], due: tuple[int, ...]) -> None:
    """In Berlin, where clocks change."""
    assert next_cron_ms(expression, ms(*after), "Europe/Berlin") == ms(*due)


@given(st.integers(1_500_000_000, 1_900_000_000), st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]))
def test_a_daily_time_comes_once_a_day_whatever_clocks_do(after_s: int, timezone: str) -> None:
    """The next occurrence lies ahead, and within a day and the longest gap."""
    due_ms = next_cron_ms("30 2 * * *", after_s * 1000, timezone)
    assert 0 < due_ms - after_s * 1000 <= 25 * 3600 * 1000


@pytest.mark.parametrize("timezone", ["", "Berlin", "../etc/passwd", "Europe/"])
def test_a_wrong_time_zone_is_invalid(timezone: str) -> None:
    """It is named, with what would be one."""
    with pytest.raises(Invalid, match="no time zone"):
        next_cron_ms("@daily", 0, timezone)


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "@never", "0 0 30 2 *"])
def test_a_wrong_expression_is_invalid(expression: str) -> None:
    """So is one that never comes true."""
    with pytest.raises(Invalid, match="cron expression"):
        next_cron_ms(expression, ms(2026, 1, 1))
