"""Calls that wait for each other in a circle: found when the call that would close it is about to wait."""

from __future__ import annotations

from collections.abc import Iterable

from stead.errors import Deadlock
from stead.events import Chain
from stead.logic.waiting import find_circle
from stead.runtime.turn import Turn


def circle(chain: Chain, running: Iterable[Turn]) -> Deadlock | None:
    """The error for an event with this chain that would wait for `running`, where one of these waits for the event's sender."""
    numbers = {ref.number for ref in chain}
    path = find_circle(running, lambda turn: turn.number in numbers, _waits_for)
    if path is None:
        return None
    names = [str(chain[-1].actor), *(str(turn.activation.actor) for turn in path)]
    return Deadlock(f"these calls wait for each other: {' → '.join(names)}; nothing ran")


def _waits_for(turn: Turn) -> list[Turn]:
    """The turns that must end before `turn` can: those that run its calls, or stand before them."""
    waits: list[Turn] = []
    for call in turn.calls or ():
        if call.turn is not None:
            waits.append(call.turn)
        elif call.waiting_in is not None:
            nest = call.waiting_in.nest
            if nest is not None and nest.turn is not None:
                waits.append(nest.turn)
        elif call.waiting_at is not None:
            waits.extend(call.waiting_at.running.values())
    return waits
