"""Actors go to a node that has joined, a few at a time.

When the members have not changed for a while, every node looks once at what it has. What has its home on a newcomer, a node that
joined or was uncordoned since the last look, moves there, and so does what the manifest wishes elsewhere (`logic.placement.moves`).
Who ran the most turns meanwhile goes first: those are what a busy node wants to be rid of. All else stays where it is, and so does
what has come since the change: who sent it here knew of it.

A move holds what comes for the actor until the new owner has it, so nobody who calls sees an error. What cannot be held, an actor
with work outside turns, stays until it leaves memory by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from stead.clock import Clock, sleep
from stead.cluster.wishes import Wishes
from stead.errors import SteadError
from stead.ids import ActorId, parse_id
from stead.logic.placement import Candidate, moves
from stead.runtime import Tasks

SETTLE_S = 5.0  # without a change of the members before anything moves
MOVES_PER_S = 50  # of one node: each is a release, a claim and a load, which the engine has others to do besides
MOVES_AT_ONCE = 8  # what is on its way answers later: a few actors at any moment
SCAN_ACTORS = 200  # looked at in one step of the loop

log = logging.getLogger("stead.cluster")


class Here(Protocol):
    """This node's dispatcher, as balancing sees it."""

    clock: Clock
    tasks: Tasks

    def turns_by_actor(self) -> Mapping[str, int]:
        """How many turns each actor that this node has for sure has had in memory, by id."""
        ...

    def may_move(self, actor: ActorId) -> bool:
        """Whether an actor of this node can go to another one without anything being cut off."""
        ...


class Places(Protocol):
    """Where actors should be, as balancing sees it."""

    wishes: Wishes

    @property
    def me(self) -> int: ...
    def candidates(self) -> list[Candidate]: ...


class Giving(Protocol):
    """What moves an actor."""

    async def give(self, actor: ActorId, to: int) -> None:
        """Raises `Unavailable` if the new owner cannot be reached: then the actor stays."""
        ...


class Balancing:
    """One per node whose actors may move. It rests but for the time after a change of the members."""

    def __init__(self, here: Here, places: Places, moving: Giving) -> None:
        self._here = here
        self._places = places
        self._moving = moving
        self._settled: set[int] | None = None  # nodes that have what is theirs; None: this one has just started
        self._changes = 0
        self._is_running = False
        self._next_s = 0.0  # when the next move may begin

    def members_changed(self) -> None:
        """Who is alive, or drains, is not as it was."""
        self._changes += 1
        if self._settled is None:
            self._settled = self._present()
        if not self._is_running:
            self._is_running = True
            self._here.tasks.start(self._balance())

    async def _balance(self) -> None:
        try:
            is_even = False
            while not is_even:
                changes, before = self._changes, self._here.turns_by_actor()
                await sleep(SETTLE_S)
                is_even = changes == self._changes and await self._look(before)
        finally:
            self._is_running = False

    async def _look(self, before: Mapping[str, int]) -> bool:
        """Move what is to move. False if not all of it could be, or the members have changed."""
        changes, candidates = self._changes, self._places.candidates()
        own = next((node for node in candidates if node.incarnation == self._places.me), None)
        present = self._present()
        self._settled = present & (self._settled or set())
        newcomers = present - self._settled
        if own is not None:
            actors = hottest_first(self._here.turns_by_actor(), before)
            for start in range(0, len(actors), SCAN_ACTORS):
                wished = [(actor.text, self._places.wishes.of(actor)) for actor in actors[start : start + SCAN_ACTORS]]
                if not await self._perform(moves(wished, own, candidates, newcomers), changes):
                    return False
                await sleep(0)
        self._settled = present
        return changes == self._changes

    def _present(self) -> set[int]:
        return {node.incarnation for node in self._places.candidates() if not node.is_draining}

    async def _perform(self, chosen: Sequence[tuple[str, int]], changes: int) -> bool:
        room, given = asyncio.Semaphore(MOVES_AT_ONCE), list[bool]()
        async with asyncio.TaskGroup() as tasks:
            for text, to in chosen:
                await self._wait_turn()
                await room.acquire()
                if changes != self._changes or not all(given):
                    return False
                tasks.create_task(self._give(parse_id(text), to, room, given))
        return all(given)

    async def _wait_turn(self) -> None:
        """Until the next move may begin."""
        now_s = self._here.clock.elapsed_s()
        self._next_s = max(self._next_s, now_s) + 1 / MOVES_PER_S
        await sleep(self._next_s - now_s)

    async def _give(self, actor: ActorId, to: int, room: asyncio.Semaphore, given: list[bool]) -> None:
        try:
            if self._here.may_move(actor):
                await self._moving.give(actor, to)
        except SteadError as exc:
            log.info("%s stays for now: %s", actor, exc)
            given.append(False)
        finally:
            room.release()


def hottest_first(now: Mapping[str, int], before: Mapping[str, int]) -> list[ActorId]:
    """The actors that were there before and are now, by the turns that they had in between, by id where those are as many."""
    return [parse_id(text) for text in sorted(now.keys() & before, key=lambda text: (before[text] - now[text], text))]
