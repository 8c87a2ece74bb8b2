"""Planted bugs: each breaks one promise of docs/promises.md on purpose, to show that the property which checks it can fail.

`with sabotaged("reply_before_commit"):` replaces product functions by wrong ones until the block ends. Production code knows
nothing of it. The wrong ones are bugs that someone could write: a check left out, two lines in the wrong order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getattr_static

from stead.errors import Invalid
from stead.testing.planting import Plant
from stead.testing.sabotage_signals import SIGNAL_SABOTAGES
from stead.testing.sabotage_turns import TURN_SABOTAGES

SABOTAGES = TURN_SABOTAGES | SIGNAL_SABOTAGES
"""The bugs that one node can have without sockets and data services, by their names."""


@contextmanager
def sabotaged(bug: str | Plant) -> Iterator[None]:
    """Plant a bug, or that of a name in `SABOTAGES`, for the length of the block. Raises `Invalid` for an unknown name."""
    plant = SABOTAGES.get(bug) if isinstance(bug, str) else bug
    if plant is None:
        raise Invalid(f"there is no planted bug {bug!r}; there are: {', '.join(SABOTAGES)}")
    right = getattr_static(plant.owner, plant.attribute)
    setattr(plant.owner, plant.attribute, plant.wrong(right))
    try:
        yield
    finally:
        setattr(plant.owner, plant.attribute, right)
