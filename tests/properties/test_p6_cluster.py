"""P6 over several nodes: an alarm runs at least once, on one node at a time, whoever dies; a dead owner's alarms find another."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from stead.clock import sleep
from stead.cluster.reach import LEASES_MISSED, MARGIN_S
from stead.ids import Chance
from stead.logic.lease import LEASE_S, RENEW_SHARE
from stead.runtime.scheduler import SHARED_POLL_S
from stead.storage.contract import AlarmRow
from stead.testing import CLUSTER_TURN_SABOTAGES, World, check, find, sabotaged
from tests.properties import test_p6_alarms
from tests.properties.harness import beset_by
from tests.properties.misfortunes import NODES
from tests.properties.stage import CLUSTER_SEEDS, Stage
from tests.properties.test_p6_alarms import SCENE, Scene, Sleeper

SLEEPERS = 6
NEVER_MS = 1 << 50
TAKEOVER_S = LEASE_S + SHARED_POLL_S + 1.5  # an alarm of a dead node: the lease, a look at the index, and the way to a node
CUT_OFF_S = LEASE_S * (LEASES_MISSED + RENEW_SHARE) + MARGIN_S + 0.5  # until a node that nobody reaches has said so
MOVES_S, LONG_S = 12.0, 0.3


async def taken_over(seed: int) -> None:
    """Alarms of several actors, due before and after their node dies, freezes or loses the database."""
    chance, scene = Chance(seed), Scene()
    async with Stage.of(actors={"sleeper": Sleeper}, world=World(commit_s=0.05)) as app:
        SCENE[:] = [(app, scene)]
        due_s: dict[str, float] = {}
        for number in range(SLEEPERS):
            delay_s = 2 * LEASE_S * chance.fraction()
            await app.env.SLEEPER.get(f"{number}").set(f"{number}", delay_s)
            due_s[f"{number}"] = app.clock.elapsed_s() + delay_s
        await sleep(chance.fraction())
        what, lost_s = ("kill", "pause", "partition")[chance.below(3)], app.clock.elapsed_s()
        node = chance.below(NODES)
        if what == "kill":
            await app.cluster.kill(node)
        elif what == "pause":
            app.cluster.pause(node)
        else:
            app.cluster.partition(node, "database")
        await sleep(LEASE_S)
        await check_slices(app)
        await sleep(LEASE_S + TAKEOVER_S)
        runs = list(scene.runs)
        app.cluster.heal()
        app.cluster.resume(node)
        await sleep(LEASE_S)
        assert not scene.problems, scene.problems
        for name, at_s in due_s.items():
            latest_s = max(at_s, lost_s) + TAKEOVER_S
            assert any(run == name and ran_s <= latest_s for run, ran_s in runs), f"{name} was late, or never came: {runs}"
            done = (await app.env.SLEEPER.get(name).report())["done"]
            assert done == [name], f"{name} had the effects {done}"


async def cut_off(seed: int) -> None:
    """Alarms of actors that nobody has in memory, due before and after a node finds out that it reaches no other one."""
    chance, scene = Chance(seed), Scene()
    async with Stage.of(actors={"sleeper": Sleeper}, world=World(commit_s=0.05)) as app:
        SCENE[:] = [(app, scene)]
        due_s: dict[str, float] = {}
        for number in range(SLEEPERS):
            delay_s = 2.0 + 2 * CUT_OFF_S * chance.fraction()
            sleeper = app.env.SLEEPER.get(f"{number}")
            await sleeper.set(f"{number}", delay_s)
            due_s[f"{number}"] = app.clock.elapsed_s() + delay_s
            await app.evict(sleeper)
        node, cut_s = chance.below(NODES), app.clock.elapsed_s()
        for other in {*range(NODES)} - {node}:
            app.cluster.partition(node, other)
        while app.clock.elapsed_s() < cut_s + 3 * CUT_OFF_S:
            await sleep(chance.fraction())
            await check_slices(app)
        runs = list(scene.runs)
        app.cluster.heal()
        await sleep(LEASE_S)
        assert not scene.problems, scene.problems
        for name, at_s in due_s.items():
            latest_s = max(at_s, cut_s + CUT_OFF_S) + SHARED_POLL_S + 1.5
            assert any(run == name and ran_s <= latest_s for run, ran_s in runs), f"{name} was late, or never came: {runs}"
            done = (await app.env.SLEEPER.get(name).report())["done"]
            assert done == [name], f"{name} had the effects {done}"


async def check_slices(app: Stage) -> None:
    """Each alarm is one node's to fire."""
    firing: dict[AlarmRow, int] = {}
    for node in range(NODES):
        if app.cluster.is_alive(node):
            for row in await app.engine(node).due(NEVER_MS, SLEEPERS):
                assert row not in firing, f"{row} is node {node}'s to fire, and node {firing[row]}'s"
                firing[row] = node


async def moved(seed: int) -> None:
    """Alarms whose runs last, of actors that are never long on one node."""
    chance, scene = Chance(seed), Scene()
    async with Stage.of(actors={"sleeper": Sleeper}, world=World(commit_s=0.05)) as app:
        SCENE[:], scene.run_s = [(app, scene)], LONG_S
        names = [f"{number}" for number in range(SLEEPERS)]
        for name in names:
            await app.env.SLEEPER.get("one").set(name, MOVES_S * chance.fraction())
        async with beset_by(*(moving(app) for _ in range(2))):
            await sleep(MOVES_S)
        await sleep(LEASE_S)
        done = Counter((await app.env.SLEEPER.get("one").report())["done"])
        assert not scene.problems, scene.problems
        assert done == Counter(names), f"the effects are {done}"
        assert Counter(name for name, _ in scene.runs) == done, f"nobody died, and the runs were {scene.runs}"


async def moving(app: Stage) -> None:
    while True:
        await sleep(0.3 * app.chance.fraction())
        await app.move_any()


SCENARIOS: dict[str, Any] = {
    "under_faults": partial(test_p6_alarms.under_faults, on=Stage),
    "failing_for_good": partial(test_p6_alarms.failing_for_good, on=Stage),
    "taken_over": taken_over,
    "cut_off": cut_off,
    "moved": moved,
}
FOUND_BY = {"runs_go_on_while_an_actor_moves": "moved", "share_of_the_cut_off_waits": "cut_off"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_alarm_is_never_lost(name: str) -> None:
    """Every alarm has its effect once, in time, never beside itself; one that fails for good is kept as dead."""
    check(SCENARIOS[name], CLUSTER_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P6"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the properties fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(SCENARIOS[FOUND_BY.get(name, "taken_over")])
