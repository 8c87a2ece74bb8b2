"""When a failed alarm runs again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stead.logic.retry import RETRIES_MAX, retry_delay_ms


def test_delays_double_from_two_seconds_and_end() -> None:
    """Six retries after 2, 4, 8, 16, 32 and 64 s, then none."""
    assert [retry_delay_ms(n, 0.0) for n in range(1, RETRIES_MAX + 2)] == [2000, 4000, 8000, 16000, 32000, 64000, None]


@given(st.integers(1, RETRIES_MAX), st.floats(0, 1, exclude_max=True))
def test_jitter_adds_a_quarter_at_most(failures: int, fraction: float) -> None:
    """What failed together comes back apart, and never early."""
    base_ms, delay_ms = retry_delay_ms(failures, 0.0), retry_delay_ms(failures, fraction)
    assert base_ms is not None and delay_ms is not None
    assert base_ms <= delay_ms <= base_ms * 1.25
