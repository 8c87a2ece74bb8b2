"""Rate limiters: never more than the limit, and the time told for the next try is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead import Actor
from stead.bindings import Algorithm, Binding, RateLimit, RateLimiter, meter_class
from stead.clock import sleep
from stead.logic.limiting import Meter, SlidingWindow, TokenBucket
from stead.manifest import parse_manifest
from stead.testing import TestApp

METERS: dict[Algorithm, Callable[[int, float, float], Meter]] = {
    Algorithm.TOKEN_BUCKET: TokenBucket,
    Algorithm.SLIDING_WINDOW: SlidingWindow,
}


def limiter(limit: int, period_s: float, algorithm: Algorithm = Algorithm.TOKEN_BUCKET) -> Binding:
    return Binding(meter_class(RateLimit(limit, period_s, algorithm)), RateLimiter)


class Guarded(Actor):
    """Asks the limiter before it works."""

    async def work(self, user: str) -> tuple[bool, float]:
        verdict = await self.env.LIMITER.limit(user)
        return verdict.success, verdict.retry_after_s


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("algorithm", Algorithm)
async def test_the_limit_is_for_each_key_and_comes_back(algorithm: Algorithm) -> None:
    """Three pass, the fourth is told when to come back; another key is not concerned; hibernation forgets nothing."""
    async with TestApp.of(actors={"guarded": Guarded}, bindings={"limiter": limiter(3, 60, algorithm)}) as app:
        guarded = app.env.GUARDED.get("g")
        assert [(await guarded.work("ann"))[0] for _ in range(4)] == [True, True, True, False]
        assert (await guarded.work("bob"))[0]
        await sleep(15)  # longer than an actor stays in memory by default
        passed, retry_after_s = await guarded.work("ann")
        assert passed is (algorithm is Algorithm.TOKEN_BUCKET and retry_after_s == 0)
        while not passed:
            await sleep(retry_after_s - 0.01)
            assert not (await guarded.work("ann"))[0]
            await sleep(0.02)
            passed, retry_after_s = await guarded.work("ann")


@given(
    algorithm=st.sampled_from(list(Algorithm)),
    limit=st.integers(1, 20),
    period_s=st.floats(0.5, 1000),
    gaps=st.lists(st.floats(0, 3), max_size=120),
)
def test_never_more_than_twice_the_limit_in_any_period(
    algorithm: Algorithm, limit: int, period_s: float, gaps: list[float]
) -> None:
    """In no period do more than 2 × limit pass (a full bucket and its refill), and who waits as told passes."""
    now_s = 1000.0
    meter = METERS[algorithm](limit, period_s, now_s)
    passed: list[float] = []
    for gap in gaps:
        now_s += gap * period_s / limit
        verdict = meter.take(now_s)
        if not verdict.success:
            assert 0 < verdict.retry_after_s <= 2 * period_s
            if gap > 2:
                now_s += verdict.retry_after_s * 1.000001 + 1e-6
                assert meter.take(now_s).success
                passed.append(now_s)
        else:
            passed.append(now_s)
    for index, began_s in enumerate(passed):
        assert sum(began_s <= other < began_s + period_s for other in passed[index:]) <= 2 * limit


def test_the_manifest_declares_it() -> None:
    """`rate_limit` needs a limit and a period, and nothing it does not know."""
    application = parse_manifest('application "a" { rate_limit "api-calls" { limit = 100 period_s = 60 } }', "x")
    assert (application.rate_limits[0].limit, application.rate_limits[0].period_s) == (100, 60)
    for wrong, said in {"limit = 0": "above 0", "limit = 1": "has no `period_s`", 'algorithm = "leaky"': "leaky"}.items():
        with pytest.raises(Exception, match=said):
            parse_manifest(f'application "a" {{ rate_limit "n" {{ {wrong} }} }}', "x")


def test_planted_a_bucket_that_never_empties_is_found() -> None:
    """The property above fails for a meter that lets everyone pass."""

    class Open(TokenBucket):
        def take(self, now_s: float) -> Any:
            self._tokens = 2.0
            return super().take(now_s)

    meter = Open(1, 10, 0)
    assert sum(meter.take(0.0).success for _ in range(5)) > 2
