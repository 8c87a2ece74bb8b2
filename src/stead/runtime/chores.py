"""Events that concern an actor's state alone. They need no instance, so a class that cannot start does not hold them up."""

from __future__ import annotations

from stead.events import AlarmDue, Event, Settled
from stead.runtime.turn import AlarmFailed, Entry, SignalsAnswered, Warmed

WAKE_ALARM = "\0outbox"  # wakes an actor that may have signals to send again
FORGET_ALARM = "\0receipts"  # and one that keeps results that are over
_HIDDEN = frozenset({WAKE_ALARM, FORGET_ALARM})  # no names that a user can give
_CHORES = (AlarmFailed, SignalsAnswered, Settled)


def is_chore(event: Event | Entry | AlarmFailed | SignalsAnswered | Warmed) -> bool:
    return isinstance(event, _CHORES) or (isinstance(event, AlarmDue) and event.name in _HIDDEN)
