"""P3 over several nodes: whatever befalls them, a turn is whole or not at all, in what it sends as well.

A failover to a copy that lacks the last commits loses those, and nothing but those: each of them whole, and for ever.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stead import Actor, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.storage.contract import Commit
from stead.testing import CLUSTER_TURN_SABOTAGES, World, check, find, sabotaged
from tests.properties import test_p3_parts
from tests.properties.harness import Ledger, Witness, beset_by, crashing, evicting, failing, together
from tests.properties.misfortunes import CALM_S
from tests.properties.stage import CLUSTER_SEEDS, Stage
from tests.properties.test_p3_atomic import client

LEDGERS, CLIENTS, CRASHES = ("p", "q"), 4, 4
FAILOVERS, LOST_MAX = 3, 6


class Told(Ledger):
    """Sends a signal with each token, too."""

    async def _set_alarm(self, token: str, payload: bytes) -> None:
        await super()._set_alarm(token, payload)
        await self.env.MIRROR.get(self.id.name).signal("take", token)


class Mirror(Actor):
    """What a ledger has sent."""

    tokens: list[str] = durable(factory=list)

    async def take(self, token: str) -> None:
        self.tokens.append(token)

    @reads
    async def view(self) -> list[str]:
        return self.tokens


def cluster() -> Stage:
    return Stage.of(actors={"ledger": Told, "mirror": Mirror}, world=World(commit_s=0.05))


async def whole(seed: int) -> None:
    """Failing and other turns, while nodes die, freeze, stop, lose each other and the database, and actors move."""
    chance = Chance(seed)
    async with cluster() as app:
        witnesses = {name: Witness(app.env.LEDGER.get(name)) for name in LEDGERS}
        ledgers = [witness.ledger for witness in witnesses.values()]
        async with beset_by(crashing(app, chance, CRASHES), failing(app, chance), evicting(app, chance, *ledgers)):
            await together(*(client(f"{at}.", witnesses[LEDGERS[at % len(LEDGERS)]], chance) for at in range(CLIENTS)))
        await sleep(CALM_S)
        for name, witness in witnesses.items():
            await witness.look()
            there, arrived = (await witness.ledger.view())["attribute"], await app.env.MIRROR.get(name).view()
            assert sorted(arrived) == sorted(there), f"{arrived} arrived of {there}"


async def lossy(seed: int) -> None:
    """The same, and the database fails over to copies that lack its last commits."""
    chance = Chance(seed)
    async with cluster() as app:
        witnesses = {name: Witness(app.env.LEDGER.get(name)) for name in LEDGERS}
        async with beset_by(crashing(app, chance, 2)):
            clients = [client(f"{at}.", witnesses[LEDGERS[at % len(LEDGERS)]], chance) for at in range(CLIENTS)]
            await together(failing_over(app, chance, witnesses), *clients)
        await sleep(CALM_S)
        for witness in witnesses.values():
            await witness.look()


async def failing_over(app: Stage, chance: Chance, witnesses: dict[str, Witness]) -> None:
    """Fail over now and then, and note which tokens are lost."""
    for _ in range(FAILOVERS):
        await sleep(chance.fraction())
        for commit in app.cluster.failover(lost=1 + chance.below(LOST_MAX)):
            if commit.actor.unit == "ledger":
                witnesses[str(commit.actor.name)].lost |= tokens_of(commit)


def tokens_of(commit: Commit) -> set[str]:
    prefix = b"kt:"
    return {key.removeprefix(prefix).decode() for key in commit.writes if key.startswith(prefix)}


SCENARIOS: dict[str, Any] = {"whole": whole, "lossy": lossy, "parts": partial(test_p3_parts.scenario, on=Stage)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_turn_is_whole_or_nothing(name: str) -> None:
    """All places agree, what was undone or lost is in none, the acknowledged in all but those, no other has sent a signal."""
    check(SCENARIOS[name], CLUSTER_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P3"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the properties fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(lossy if name == "lost_commits_unnoticed" else whole)
