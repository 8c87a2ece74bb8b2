"""Which of an actor's waiting events may run now.

In the order they came, one at a time; events that only read run beside each other, but never beside or ahead of one that writes.
"""

from __future__ import annotations

from collections import deque

from stead.runtime.turn import Delivery


class Mailbox:
    """`active` events were taken and have not ended; one that is `exclusive` lets no other beside it."""

    __slots__ = ("active", "exclusive", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.active = 0
        self.exclusive = False

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.waiting

    def take(self, *, alone: bool) -> Delivery | None:
        """The next event if it may run now, which then is active. `alone`: whatever it is, nothing may run beside it."""
        if not self.waiting or self.exclusive:
            return None
        exclusive = alone or not self.waiting[0].shared
        if exclusive and self.active:
            return None
        self.exclusive = exclusive
        self.active += 1
        return self.waiting.popleft()

    def end(self) -> None:
        """An active event has ended."""
        self.active -= 1
        self.exclusive = False
