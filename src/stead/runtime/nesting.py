"""Nested turns: an event whose call chain already holds a turn of this actor runs inside that turn, at once.

The outer turn's writes were committed when it called out, so each of the two rolls back alone; while an inner one runs, the outer
one's storage waits. What comes back to one turn runs one after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from stead.errors import Invalid
from stead.events import Chain
from stead.ids import ActorId
from stead.runtime.turn import Delivery, Turn


class Nest:
    """What came back to one turn: made by the first event, and gone when none is left."""

    __slots__ = ("idle", "task", "turn", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.turn: Turn | None = None  # the inner turn that runs
        self.task: asyncio.Task[None] | None = None  # that runs them
        self.idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Let those go on who wait for the storage of the outer turn."""
        if not self.idle.done():
            self.idle.set_result(None)


def outer_turn(chain: Chain, actor: ActorId, running: Mapping[int, Turn]) -> Turn | None:
    """The innermost of an actor's running turns that waits for an event with this chain."""
    for ref in reversed(chain):
        if ref.actor == actor and (turn := running.get(ref.number)) is not None:
            return turn
    return None


def refusal(outer: Turn, delivery: Delivery) -> Invalid | None:
    """The error for an event that came back to `outer` and cannot run inside it."""
    actor = outer.activation.actor
    if outer.reads and not delivery.shared:
        return Invalid(f"a @reads method of {actor} called out, and the call came back to write; remove @reads")
    if len(outer.layers) > 1:
        return Invalid(f"a call came back to {actor} while its storage.transaction() is open")
    return None
