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


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "@never", "0 0 30 2 *"])
def test_a_wrong_expression_is_invalid(expression: str) -> None:
    """So is one that never comes true."""
    with pytest.raises(Invalid, match="cron expression"):
        next_cron_ms(expression, ms(2026, 1, 1))
