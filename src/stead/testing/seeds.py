"""One scenario under many seeds: to check that something always holds, and that the check can fail.

A scenario is an async function that takes a seed, acts, and asserts. Each seed gives it a `SeededLoop` of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from stead.testing.loop import Stuck, run

Scenario = Callable[[int], Coroutine[Any, Any, None]]

SEEDS = 200  # some hundred schedules take a second
SEEDS_VARIABLE = "STEAD_SEEDS"


def check(scenario: Scenario, seeds: int = SEEDS) -> None:
    """Run `scenario` with each seed from 0. What the first failing one raises comes with a note of the seed.

    With STEAD_SEEDS in the environment it is that many seeds instead.
    """
    for seed in range(int(os.environ.get(SEEDS_VARIABLE, seeds))):
        try:
            run(scenario(seed), seed=seed)
        except BaseException as exc:
            exc.add_note(f"seed {seed} of {getattr(scenario, '__qualname__', scenario)}")
            raise


def find(scenario: Scenario, seeds: int = SEEDS, first: int = 0) -> int:
    """A seed with which `scenario` fails: an assertion, or no progress. Raises `AssertionError` if none does.

    It tries `first`, say the one that it found last, and goes on from there over all that there are, round to the one before it.
    """
    for step in range(seeds):
        seed = (first + step) % seeds
        try:
            run(scenario(seed), seed=seed)
        except (AssertionError, Stuck):
            return seed
        except BaseExceptionGroup as group:
            if group.subgroup((AssertionError, Stuck)) is not None:
                return seed
            raise
    raise AssertionError(f"no seed below {seeds} fails: a check that cannot fail is worth nothing")
