"""P2 over several nodes: what one sender sends to one actor runs in that order, and as often as the sender is told.

Senders call actors from every node while actors move and nodes stop, die, freeze and lose each other. What was acknowledged ran
once, what was `Unavailable` did not, what is `Ambiguous` ran once or not at all, and with an idempotency key a call ran once at
most, whatever happened.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from stead import Actor, Ambiguous, SteadError, Unavailable, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import CLUSTER_SABOTAGES, Cluster, World, check
from tests.properties.harness import UNDONE, Started, find_planted, together
from tests.properties.misfortunes import CALM_S, FAULT_S, NODES, befall

SENDERS, CALLS, FAULTS = 9, 16, 5
MISFORTUNES = ("dies", "stops", "freezes", "loses the database", "loses a peer", "moves", "moves")
MOVES, MOVED_CALLS = 12, 24
NAMES = ("p", "q")
SEEDS = 40
PLANT_SEEDS = 1000  # one in a hundred shows the rarest planted bug


class Log(Actor):
    """Appends what it is given."""

    tokens: list[str] = durable(factory=list)

    async def add(self, token: str, pause_s: float) -> int:
        await sleep(pause_s)
        self.tokens.append(token)
        return len(self.tokens)

    async def pass_on(self, token: str, name: str) -> int:
        """Append, and let another log append it as well."""
        self.tokens.append(token)
        await self.env.LOG.get(name).add(token, 0.0)
        return len(self.tokens)

    @reads
    async def view(self) -> list[str]:
        return self.tokens


class Sender:
    """Calls one log from one node, mostly without waiting for the answers, and remembers what it was told."""

    def __init__(self, cluster: Cluster, number: int, chance: Chance) -> None:
        self.cluster = cluster
        self.number = number
        self.chance = chance
        self.name = NAMES[number % len(NAMES)]
        self.node = number // len(NAMES) % NODES
        self.told: dict[str, int] = {}  # token: the length of the log that its answer said
        self.keyed: set[str] = set()
        self.undone: set[str] = set()
        self.failures: list[SteadError] = []

    async def run(self, calls: int, pause_s: float) -> None:
        sent = []
        for call in range(calls):
            if self.chance.below(3):
                await sleep(self.chance.fraction() * pause_s)
            token = f"{self.number}.{call:02}"
            try:
                started = Started(self._send(token, self.chance.below(4) == 0))
            except Unavailable:  # the node does not run
                continue
            sent.append(self._hear(started, token))
        await together(*sent)

    async def _send(self, token: str, is_keyed: bool) -> int:
        log: Any = self.cluster.env_at(self.node).LOG.get(self.name)
        if is_keyed:
            self.keyed.add(token)
            log = log.with_idempotency_key(token)
        return int(await log.add(token, 0.1 * self.chance.below(3)))

    async def _hear(self, started: Started[int], token: str) -> None:
        try:
            self.told[token] = await started
        except SteadError as exc:
            self.failures.append(exc)
            if isinstance(exc, UNDONE):
                self.undone.add(token)
            elif not isinstance(exc, Ambiguous):
                raise

    def check(self, history: list[str]) -> None:
        for token, length in self.told.items():
            assert history[length - 1] == token, f"{token} was said to be number {length} of {history}"
        assert not self.undone & set(history), f"did not run, and did: {self.undone & set(history)}"
        mine = [token for token in history if token.startswith(f"{self.number}.")]
        late = {token for at, token in enumerate(mine) if token < max(mine[:at], default="")}
        assert late <= self._may_be_late, f"sent in order, and run as {mine}"

    @property
    def _may_be_late(self) -> set[str]:
        """What a key lets be sent again, behind what was sent meanwhile; nothing where nothing failed."""
        return self.keyed if self.failures else set()


async def misfortune(cluster: Cluster, chance: Chance) -> None:
    """One fault after the other, each for a while."""
    for _ in range(FAULTS):
        await sleep(3.0 * chance.fraction())
        node, kind, fault_s = chance.below(NODES), chance.below(len(MISFORTUNES)), FAULT_S * chance.fraction()
        if MISFORTUNES[kind] == "moves":
            await move(cluster, chance)
        else:
            await befall(cluster, MISFORTUNES[kind], node, fault_s)


async def move(cluster: Cluster, chance: Chance) -> None:
    """Move an actor anywhere, as who asks any node for it."""
    with suppress(Unavailable, Ambiguous):
        await cluster.move(cluster.env.LOG.get(NAMES[chance.below(len(NAMES))]), chance.below(NODES))


async def moving(cluster: Cluster, chance: Chance) -> None:
    """Move actors all the time."""
    for _ in range(MOVES):
        await sleep(0.1 * chance.fraction())
        await move(cluster, chance)


async def besieged(seed: int) -> None:
    """Senders on every node, and faults of every kind."""
    chance = Chance(seed)
    async with Cluster.of(actors={"log": Log}, nodes=NODES, seed=seed, world=World(commit_s=0.05)) as cluster:
        senders = [Sender(cluster, number, chance) for number in range(SENDERS)]
        await together(misfortune(cluster, chance), *(sender.run(CALLS, 2.0) for sender in senders))
        await sleep(CALM_S)
        await check_all(cluster, senders)


async def moved(seed: int) -> None:
    """Senders on every node, and actors that are never long on one. Nobody sees an error."""
    chance = Chance(seed)
    async with Cluster.of(actors={"log": Log}, nodes=NODES, seed=seed, world=World(commit_s=0.01)) as cluster:
        cluster.network.delay_s_max = 0.03
        senders = [Sender(cluster, number, chance) for number in range(SENDERS)]
        await together(moving(cluster, chance), moving(cluster, chance), *(sender.run(MOVED_CALLS, 0.1) for sender in senders))
        await check_all(cluster, senders)
        for sender in senders:
            assert not sender.failures, f"an actor moved, and a caller was told {sender.failures[0]!r}"


async def check_all(cluster: Cluster, senders: list[Sender]) -> None:
    for name in NAMES:
        try:
            history = await cluster.env.LOG.get(name).view()
        except SteadError as exc:
            raise AssertionError(f"{name} has no owner, although all faults are over") from exc
        assert len(set(history)) == len(history), f"a token is there twice: {history}"
        for sender in senders:
            if sender.name == name:
                sender.check(history)


@pytest.mark.parametrize("scenario", [besieged, moved])
def test_what_a_sender_sends_runs_in_order_and_as_often_as_it_is_told(scenario: Any) -> None:
    """Order, exactly once where acknowledged, not at all where undone: over kills, stops, freezes, partitions and moves."""
    check(scenario, SEEDS)


FOUND_BY_MOVES = {"held_events_in_reverse", "only_one_event_is_refused", "taken_in_while_events_are_elsewhere"}
FOUND_AT = {  # the seeds that have shown the rare ones
    "only_one_event_is_refused": 6,
    "refused_and_run": 11,
    "refused_events_wait_behind": 71,
    "taken_in_while_events_are_elsewhere": 200,
}


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_SABOTAGES.items() if plant.promise == "P2"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the two fail."""
    scenario = moved if name in FOUND_BY_MOVES else besieged
    find_planted(CLUSTER_SABOTAGES[name], scenario, PLANT_SEEDS, FOUND_AT.get(name, 0))
