"""P1 over several nodes: whatever befalls them, one owner of an actor can commit at a time, and a stale one never answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stead import Actor, Ambiguous, SteadError, codec, durable, reads
from stead.clock import sleep
from stead.ids import Chance
from stead.logic.lease import LEASE_S
from stead.storage.contract import Commit
from stead.storage.memory import Ownership
from stead.testing import CLUSTER_SABOTAGES, CLUSTER_TURN_SABOTAGES, Cluster, Database, World, check, current_clock, find, sabotaged
from tests.properties.harness import UNDONE, together
from tests.properties.misfortunes import CALM_S, FAULT_S, NODES, befall

CLIENTS, OPERATIONS, FAULTS = 4, 14, 4
MISFORTUNES = ("dies", "freezes", "loses the database", "loses a peer", "has a wrong clock", "fails over")
LOST_MAX = 6
NAMES = ("p", "q")
SLEEPS, QUESTIONS, ATTEMPTS = 3, 8, 40
COMMIT_S = 0.05
SEEDS = 100  # a tenth of a second each
PLANT_SEEDS = 1000  # one in a hundred shows the rarest planted bug


class Log(Actor):
    """Appends tokens."""

    tokens: list[str] = durable(factory=list)

    async def add(self, token: str, pause_s: float) -> list[str]:
        self.tokens.append(token)
        await sleep(pause_s)
        return self.tokens

    @reads
    async def view(self) -> list[str]:
        return self.tokens


class Watch:
    """Sees every claim and commit that reaches the database, and says which commit was no owner's."""

    def __init__(self, database: Database) -> None:
        self.newest: dict[str, int] = {}
        self.problems: list[str] = []  # raised here, they would only stop a node
        self._own, self._apply = database.own, database.apply
        database.own, database.apply = self.own, self.apply  # type: ignore[method-assign]

    def own(self, text: str, ownership: Ownership) -> None:
        if ownership.owner:
            if ownership.epoch <= self.newest.get(text, 0):
                self.problems.append(f"{text} was claimed with epoch {ownership.epoch} after a larger one")
            self.newest[text] = ownership.epoch
        self._own(text, ownership)

    def apply(self, commit: Commit) -> None:
        if commit.epoch != self.newest.get(commit.actor.text):
            self.problems.append(f"{commit.actor} was committed with epoch {commit.epoch} after a newer claim")
        self._apply(commit)

    def failed_over(self) -> None:
        """What was claimed so far commits no more."""
        self.newest = dict.fromkeys(self.newest, -1)


class Witness:
    """What the clients of one log were told, in the order in which they were told it."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.lost: set[str] = set()  # with a failover, whether acknowledged or not
        self._sure_s = 0.0  # when every owner of before a failover has given up
        self.acknowledged: set[str] = set()
        self.undone: set[str] = set()

    def lose(self, tokens: set[str]) -> None:
        """A failover has lost these: who shows or misses them is right."""
        self.lost |= tokens
        self._sure_s = current_clock().elapsed_s() + LEASE_S

    def begin(self) -> set[str]:
        """What whoever asks from now on must be shown."""
        return set(self.acknowledged) if current_clock().elapsed_s() >= self._sure_s else set()

    def told(self, known: set[str], tokens: list[str]) -> None:
        known = known - self.lost
        assert known <= set(tokens), f"{sorted(known - set(tokens))} were acknowledged before, and {tokens} was shown after"
        self.seen.append(tokens)
        self.acknowledged.update(tokens)

    def check(self, history: list[str]) -> None:
        assert len(set(history)) == len(history), f"a token is there twice: {history}"
        for shown in self.seen:
            tokens = [token for token in shown if token not in self.lost]
            assert history[: len(tokens)] == tokens, f"{tokens} was shown, and the history is {history}"
        gone = self.undone | self.lost
        assert not gone & set(history), f"undone or lost, and still there: {gone & set(history)}"


async def client(cluster: Cluster, number: int, chance: Chance, witnesses: dict[str, Witness]) -> None:
    """Append and look, through whichever node."""
    for operation in range(OPERATIONS):
        name, token = NAMES[chance.below(len(NAMES))], f"{number}.{operation}"
        log, witness, looks = cluster.env.LOG.get(name), witnesses[name], chance.below(2)
        known = witness.begin()
        try:
            tokens = await (log.view() if looks else log.add(token, 0.3 * chance.below(3)))
        except Ambiguous:
            pass
        except UNDONE:
            if not looks:
                witness.undone.add(token)
        else:
            witness.told(known, tokens)
        await sleep(2.0 * chance.fraction())


async def misfortune(cluster: Cluster, chance: Chance) -> None:
    """One fault after the other, each for a while."""
    for _ in range(FAULTS):
        await sleep(3.0 * chance.fraction())
        node, kind, fault_s = chance.below(NODES), chance.below(len(MISFORTUNES)), FAULT_S * chance.fraction()
        if MISFORTUNES[kind] == "has a wrong clock":
            cluster.skew_clock(node, 3600.0 * (chance.below(3) - 1))
        else:
            await befall(cluster, MISFORTUNES[kind], node, fault_s)


async def append(cluster: Cluster, node: int, token: str, witness: Witness) -> None:
    """Append through one node, as often as it takes."""
    for attempt in range(ATTEMPTS):
        known = witness.begin()
        try:
            witness.told(known, await cluster.env_at(node).LOG.get("p").add(f"{token}, {attempt}", 0.0))
            return
        except (Ambiguous, *UNDONE):
            await sleep(0.5)
    raise AssertionError(f"{token} could not be appended")


async def ask(log: Any, witness: Witness) -> None:
    known = witness.begin()
    try:
        witness.told(known, await log.view())
    except (Ambiguous, *UNDONE):
        return


async def asleep(seed: int) -> None:
    """The owner is frozen past its lease, another takes over, and when the first one wakes there are questions for it."""
    chance = Chance(seed)
    async with Cluster.of(actors={"log": Log}, nodes=NODES, world=World(commit_s=COMMIT_S)) as cluster:
        watch, log, witness = Watch(cluster.database), cluster.env.LOG.get("p"), Witness()
        for number in range(SLEEPS):
            await append(cluster, chance.below(NODES), f"{number}", witness)
            owner = cluster.owner(log)
            assert owner is not None
            other = (owner + 1 + chance.below(NODES - 1)) % NODES
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(append(cluster, owner, f"{number} late", witness))
                await sleep(COMMIT_S * chance.fraction())  # its commit is under way
                cluster.pause(owner)
                await sleep(LEASE_S * 0.8 * chance.fraction())
                if chance.below(2):
                    await append(cluster, other, f"{number} elsewhere", witness)
                else:  # taken over, and nothing was written since: only the epoch tells
                    await ask(cluster.env_at(other).LOG.get("p"), witness)
                for _ in range(QUESTIONS):
                    tasks.create_task(ask(cluster.env_at(owner).LOG.get("p"), witness))
                await sleep(chance.fraction())
                cluster.resume(owner)
            await sleep(LEASE_S)
        assert not watch.problems, watch.problems


async def misfortunes(seed: int) -> None:
    """Clients of two logs on three nodes, and faults of every kind."""
    chance = Chance(seed)
    async with Cluster.of(actors={"log": Log}, nodes=NODES, world=World(commit_s=COMMIT_S)) as cluster:
        watch, witnesses = Watch(cluster.database), {name: Witness() for name in NAMES}
        clients = [client(cluster, number, chance, witnesses) for number in range(CLIENTS)]
        await together(misfortune(cluster, chance), *clients)
        await sleep(CALM_S)
        assert not watch.problems, watch.problems
        for name, witness in witnesses.items():
            known = witness.begin()
            try:
                history = await cluster.env.LOG.get(name).add("last", 0.0)
            except SteadError as exc:
                raise AssertionError(f"{name} has no owner, although all faults are over") from exc
            witness.told(known, history)
            witness.check(history)


async def lossy(seed: int) -> None:
    """The same clients, and the database fails over to copies that lack its last commits, claims and leases among them."""
    chance = Chance(seed)
    async with Cluster.of(actors={"log": Log}, nodes=NODES, world=World(commit_s=0.05)) as cluster:
        watch, witnesses = Watch(cluster.database), {name: Witness() for name in NAMES}
        clients = [client(cluster, number, chance, witnesses) for number in range(CLIENTS)]
        await together(losing(cluster, chance, watch, witnesses), *clients)
        await sleep(CALM_S)
        assert not watch.problems, watch.problems
        for name, witness in witnesses.items():
            witness.check(await cluster.env.LOG.get(name).add("last", 0.0))


async def losing(cluster: Cluster, chance: Chance, watch: Watch, witnesses: dict[str, Witness]) -> None:
    """Fail over now and then, while a node is frozen or not."""
    for _ in range(FAULTS):
        await sleep(3.0 * chance.fraction())
        node, is_frozen = chance.below(NODES), chance.below(2)
        if is_frozen:
            cluster.pause(node)
            await sleep(FAULT_S * chance.fraction())
        before = {name: tokens_of(cluster.database, name) for name in NAMES}
        cluster.failover(lost=1 + chance.below(LOST_MAX))
        watch.failed_over()
        for name, witness in witnesses.items():
            witness.lose(before[name] - tokens_of(cluster.database, name))
        cluster.resume(node)


def tokens_of(database: Database, name: str) -> set[str]:
    """What the log of that name has in the database."""
    stored = database.actors.get(f"log/{name}")
    values = [] if stored is None else [codec.decode(value) for key, value in stored.entries.items() if key.endswith(b"tokens")]
    return {str(token) for tokens in values for token in tokens}


async def scenario(seed: int) -> None:
    """Every other seed the one, or the other."""
    await (misfortunes(seed) if seed % 2 else asleep(seed))


def test_nothing_comes_back_after_a_failover_that_lost_commits() -> None:
    """What was claimed before it commits no more, what it has lost stays lost, and all else is one history."""
    check(lossy, SEEDS)


def test_only_the_owner_commits_and_answers() -> None:
    """Whatever the nodes acknowledge or show is one history, and shows all that was acknowledged before it was asked for."""
    check(scenario, SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_SABOTAGES.items() if plant.promise == "P1"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(CLUSTER_SABOTAGES[name]):
        find(scenario, PLANT_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P1"])
def test_a_planted_bug_of_failovers_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(lossy)
