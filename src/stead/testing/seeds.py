"""One scenario under many seeds: to check that something always holds, and that the check can fail.

A scenario is an async function that takes a seed, acts, and asserts. Each seed gives it a `SeededLoop` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from stead.testing.loop import Stuck, run

Scenario = Callable[[int], Coroutine[Any, Any, None]]

SEEDS = 200  # some hundred schedules take a second


def check(scenario: Scenario, seeds: int = SEEDS) -> None:
    """Run `scenario` with each seed from 0. What the first failing one raises comes with a note of the seed."""
    for seed in range(seeds):
        try:
            run(scenario(seed), seed=seed)
        except BaseException as exc:
            exc.add_note(f"seed {seed} of {getattr(scenario, '__qualname__', scenario)}")
            raise


def find(scenario: Scenario, seeds: int = SEEDS) -> int:
    """The first seed with which `scenario` fails: an assertion, or no progress. Raises `AssertionError` if none does."""
    for seed in range(seeds):
        try:
            run(scenario(seed), seed=seed)
        except (AssertionError, Stuck):
            return seed
        except BaseExceptionGroup as group:
            if group.subgroup((AssertionError, Stuck)) is not None:
                return seed
            raise
    raise AssertionError(f"no seed below {seeds} fails: a check that cannot fail is worth nothing")
