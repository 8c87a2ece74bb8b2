"""How far a lease may be trusted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stead.logic.lease import HARD_SHARE, LEASE_S, RENEW_SHARE, RETRY_SHARE, SOFT_SHARE, Standing, standing

SPEEDS = st.floats(0.93, 1.07)  # of a clock; real ones are within 0.001 of 1
MOMENTS = st.floats(0, 1e6)


@given(asked_s=MOMENTS, way_s=st.floats(0, 100), since_s=st.floats(0, 100), node=SPEEDS, engine=SPEEDS, lease_s=st.floats(0.1, 60))
def test_who_trusts_its_lease_has_it(
    asked_s: float, way_s: float, since_s: float, node: float, engine: float, lease_s: float
) -> None:
    """While a node may trust its lease the engine's has not run out, however long the request took and whatever the clocks say."""
    granted_s, now_s = asked_s + way_s, asked_s + way_s + since_s
    if standing((now_s - asked_s) * node, lease_s) is not Standing.OVER:
        assert (now_s - granted_s) * engine < lease_s


@given(ages=st.lists(st.floats(0, 100), min_size=2).map(sorted), lease_s=st.floats(0.1, 60))
def test_a_lease_only_ages(ages: list[float], lease_s: float) -> None:
    """It goes from firm over waning to over, and never back by itself."""
    order = [Standing.FIRM, Standing.WANING, Standing.OVER]
    seen = [order.index(standing(age_s, lease_s)) for age_s in ages]
    assert seen == sorted(seen)


def test_renewals_come_in_time() -> None:
    """One renewal may fail and be tried again several times before a lease wanes, and two more before it is over."""
    assert standing(0, LEASE_S) is Standing.FIRM
    assert RENEW_SHARE + 3 * RETRY_SHARE < SOFT_SHARE
    assert 2 * RENEW_SHARE < SOFT_SHARE < HARD_SHARE < 1
