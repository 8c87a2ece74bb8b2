"""P2: events of one actor run one at a time, in the order in which one sender sent them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stead import Actor, Ambiguous, SteadError, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SABOTAGES, TestApp, check, find, sabotaged
from tests.properties.harness import Started, beset_by, evicting, failing, holding, together

SENDERS, MESSAGES = 3, 5

Heard = list[tuple[str, str, int]]  # actor, sender, number; in the order of the turns


class Scene:
    """What happens in one run, as seen from inside the handlers."""

    def __init__(self, is_undone: bool) -> None:
        self.is_undone = is_undone  # some turns are broken by lost commits
        self.problems: list[str] = []
        self.heard: Heard = []
        self.sent: Heard = []
        self.writing: Counter[str] = Counter()
        self.reading: Counter[str] = Counter()

    def room(self, listener: Actor) -> str:
        """Where nobody may be beside a writing turn. The code of a broken turn may end beside the next, on its old instance."""
        return f"{listener.id} {id(listener)}" if self.is_undone else str(listener.id)


SCENE: list[Scene] = []  # of the run under way


class Listener(Actor):
    """Notes what it hears and who else is in the room."""

    hibernate_after_s = 0.05
    heard: int = durable(0)

    async def hear(self, sender: str, number: int, pause_s: float) -> None:
        scene, name = SCENE[-1], SCENE[-1].room(self)
        assert not scene.writing[name] and not scene.reading[name], f"two turns of {name} at once"
        scene.writing[name] += 1
        try:
            scene.heard.append((str(self.id), sender, number))
            self.heard += 1
            await sleep(pause_s)
        finally:
            scene.writing[name] -= 1

    @reads
    async def ask(self, pause_s: float) -> int:
        scene, name = SCENE[-1], SCENE[-1].room(self)
        assert not scene.writing[name], f"a read of {name} beside a write"
        scene.reading[name] += 1
        before = self.heard
        try:
            await sleep(pause_s)
            assert self.heard == before, f"{name} changed under a read"
        finally:
            scene.reading[name] -= 1
        return before

    async def relay(self, target: str, count: int, pauses: list[float]) -> None:
        """Send several calls without waiting in between, with a write before each, so that each waits for another commit."""
        listener = self.env.LISTENER.get(target)
        calls = []
        for number in range(count):
            self.heard += 1
            SCENE[-1].sent.append((str(listener.id), str(self.id), number))
            calls.append(Started(listener.hear(str(self.id), number, pauses[number])))
        await together(*(settled(call) for call in calls))

    async def work(self, target: str, count: int) -> None:
        """Let spawned work enter turns of its own."""
        self.ctx.spawn(self._enter(count))

    async def _enter(self, count: int) -> None:
        scene = SCENE[-1]
        for _ in range(count):
            async with self.ctx.turn():
                name = scene.room(self)
                if scene.writing[name] or scene.reading[name]:  # an assertion would end the spawned task only
                    scene.problems.append(f"spawned work of {name} beside a turn")
                scene.writing[name] += 1
                await sleep(0.01)
                scene.writing[name] -= 1


async def settled(call: Any) -> None:
    """A call that may be undone by a full disk."""
    try:
        await call
    except (SteadError, Ambiguous) as exc:
        if "at once" in str(exc) or isinstance(exc.__cause__, AssertionError):
            raise AssertionError(str(exc)) from exc


async def sender(app: TestApp, name: str, chance: Chance) -> None:
    """Send without waiting for answers, to two listeners, with reads between."""
    calls: list[Any] = []
    for number in range(MESSAGES):
        listener = app.env.LISTENER.get("xy"[chance.below(2)])
        SCENE[-1].sent.append((str(listener.id), name, number))
        calls.append(Started(listener.hear(name, number, 0.05 * chance.below(2))))
        if chance.below(2):
            calls.append(Started(listener.ask(0.03 * chance.below(2))))
        if chance.below(3) == 0:
            await sleep(0.1 * chance.fraction())
    await together(*(settled(call) for call in calls))


async def scenario(seed: int) -> None:
    """Senders outside, senders inside turns and spawned work, under evictions, held commits and, half the time, full disks."""
    chance, scene = Chance(seed), Scene(is_undone=seed % 2 == 1)
    SCENE[:] = [scene]
    async with TestApp.of(actors={"listener": Listener}) as app:
        x, y, z = (app.env.LISTENER.get(name) for name in "xyz")
        faults = [evicting(app, chance, x, y), holding(app, chance)]
        if scene.is_undone:
            faults.append(failing(app, chance, 1))
        pauses = [0.04 * chance.below(2) for _ in range(MESSAGES)]
        async with beset_by(*faults):
            await together(
                *(sender(app, name, chance) for name in "abc"[:SENDERS]),
                settled(z.relay("x", MESSAGES, pauses)),
                settled(y.work("y", 2)),
            )
    assert not scene.problems
    for pair in {(target, source) for target, source, _ in scene.sent}:
        sent = [number for target, source, number in scene.sent if (target, source) == pair]
        heard = [number for target, source, number in scene.heard if (target, source) == pair]
        assert heard == [number for number in sent if number in set(heard)], f"{pair}: sent {sent}, heard {heard}"
        if not scene.is_undone:
            assert heard == sent, f"{pair}: sent {sent}, heard {heard}"


def test_turns_are_serial_and_in_order() -> None:
    """No turn beside another, reads beside reads only, and what one sender sent is handled in that order, once."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P2"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
