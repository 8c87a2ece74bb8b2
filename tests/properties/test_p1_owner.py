"""P1: one activation of an actor can commit at a time; a stale one never commits again, and never answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stead import Actor, DurabilityLost, EngineFailed, durable
from stead.clock import sleep
from stead.ids import ActorId, Chance
from stead.manifest import Application
from stead.node import LoadedApplication, Node, Settings
from stead.storage.contract import Claim, Commit, Verdict
from stead.storage.memory import MemoryEngine
from stead.testing import SABOTAGES, FaultEngine, check, current_clock, find, sabotaged
from tests.properties.harness import together

NODES, CLIENTS, OPERATIONS = 2, 3, 5
ACTORS = ("p", "q")


class WatchedEngine(MemoryEngine):
    """Checks on its own account that whoever commits holds the newest claim."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[str, int] = {}
        self.problems: list[str] = []  # raised here, they would only stop the committer

    async def claim(self, actor: ActorId) -> Claim:
        claim = await super().claim(actor)
        if claim.epoch <= self.newest.get(actor.text, 0):
            self.problems.append(f"{actor} was claimed twice with epoch {claim.epoch}")
        self.newest[actor.text] = claim.epoch
        return claim

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        verdicts = await super().commit(batch)
        for commit, applied in zip(batch, verdicts, strict=True):
            if applied and commit.epoch < self.newest[commit.actor.text]:
                self.problems.append(f"{commit.actor} was committed with epoch {commit.epoch} after a newer claim")
        return verdicts


class Log(Actor):
    """Appends tokens, slowly."""

    tokens: list[str] = durable(factory=list)

    async def add(self, token: str, pause_s: float) -> list[str]:
        self.tokens.append(token)
        await sleep(pause_s)
        return self.tokens


async def client(nodes: list[Node], number: int, chance: Chance, told: dict[str, dict[str, list[str]]]) -> None:
    """Append through either node, whichever owns the actor."""
    for operation in range(OPERATIONS):
        name, node = ACTORS[chance.below(2)], nodes[chance.below(len(nodes))]
        token = f"{number}{operation}"
        try:
            seen = await node.env.LOG.get(name).add(token, 0.05 * chance.below(3))
        except DurabilityLost:
            continue
        except EngineFailed as exc:
            raise AssertionError("the engine was asked for what it cannot do") from exc
        told[name][token] = seen
        await sleep(0.05 * chance.fraction())


async def thief(engine: MemoryEngine, chance: Chance) -> None:
    """Claim actors while their turns run, as a third node would, and do nothing with them."""
    for _ in range(4):
        await sleep(0.2 * chance.fraction())
        await engine.claim(ActorId("log", "p", "log/p"))


async def scenario(seed: int) -> None:
    """Two nodes over one engine, both with clients of the same actors, and claims out of the blue."""
    chance, engine, clock = Chance(seed), WatchedEngine(), current_clock()
    application = LoadedApplication(Path.cwd(), Application(name="test"), {"log": Log}, {})
    nodes = [Node(application, FaultEngine(engine, chance, 0.05), Settings(), clock, chance) for _ in range(NODES)]
    for node in nodes:
        await node.start()
    told: dict[str, dict[str, list[str]]] = {name: {} for name in ACTORS}
    try:
        await together(thief(engine, chance), *(client(nodes, number, chance, told) for number in range(CLIENTS)))
        clock.jump(-3_600_000)  # which decides liveness, never safety
        assert not engine.problems, engine.problems
        for name in ACTORS:
            await final(nodes, name, told[name])
    finally:
        for node in nodes:
            await node.abandon()


async def final(nodes: list[Node], name: str, told: dict[str, list[str]]) -> None:
    """Every acknowledged append is part of the one history, where its reply said it was."""
    history: Any = None
    for attempt in range(NODES + 1):
        try:
            history = await nodes[attempt % NODES].env.LOG.get(name).add("last", 0.0)
            break
        except DurabilityLost:  # it was not the owner any more
            continue
    assert history is not None, "nobody can own it"
    for token, seen in told.items():
        assert history[: len(seen)] == seen, f"{token} was acknowledged with {seen}, and the history is {history}"


def test_only_the_owner_commits_and_answers() -> None:
    """Whatever two nodes acknowledge is one history; each commit carries the epoch of the newest claim."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P1"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
