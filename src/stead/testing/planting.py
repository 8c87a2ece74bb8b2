"""How a bug is planted: a wrong function in the place of a right one. See `sabotage.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Wrong = Callable[[Any], Any]
"""Makes the wrong function from the right one."""


@dataclass(frozen=True)
class Plant:
    """A planted bug: the promise it breaks, where it sits, and the wrong function."""

    promise: str
    owner: Any
    attribute: str
    wrong: Wrong


def planting(table: dict[str, Plant]) -> Callable[[str, Any, str], Callable[[Wrong], Wrong]]:
    """What enters wrong functions into `table`: `@plant("P2", Mailbox, "take")`."""

    def plant(promise: str, owner: Any, attribute: str) -> Callable[[Wrong], Wrong]:
        def add(wrong: Wrong) -> Wrong:
            table[wrong.__name__] = Plant(promise, owner, attribute, wrong)
            return wrong

        return add

    return plant
