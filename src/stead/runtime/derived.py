"""Idempotency keys for the calls of code that may run again.

Code that runs once more after a crash, for the same key, makes the same calls; each carries a key made of that key and of how often
this method of this actor was called before. So the order of calls to other actors does not matter, and what is called has its
effect once. A derived key holds a NUL, which no key of an application can: the two never meet.
"""

from __future__ import annotations

from contextvars import ContextVar


class DerivedKeys:
    """Of one run of a service's code."""

    __slots__ = ("_made", "_root")

    def __init__(self, service: str, method: str, key: str) -> None:
        self._root = f"{service}\0{method}\0{key}"
        self._made: dict[tuple[str, str], int] = {}

    def next(self, actor: str, method: str) -> str:
        """The key of the next call of this method of this actor."""
        place = actor, method
        number = self._made[place] = self._made.get(place, 0) + 1
        return f"{self._root}\0{number}"


DERIVED: ContextVar[DerivedKeys | None] = ContextVar("stead_derived_keys", default=None)
"""The keys of the running code, None if it runs under no key. Actors' turns have a context of their own, and never see it."""
