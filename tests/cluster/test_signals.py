"""Signals of an actor that changes its node while they are on their way: what is kept of them, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from stead import Actor, Overloaded, durable
from stead.clock import sleep
from stead.runtime import outbox
from stead.storage.entries import OUTBOX, SEEN
from stead.testing import Cluster
from tests.moving import move

pytestmark = pytest.mark.usefixtures("clock")
TARGET_NODE, HERE, THERE = range(3)
SIGNALS, MOVES, TARGETS = 20, 6, 2
LEASE_S = 6.0
NOTICED_S = 3.0  # after which a node that cannot be reached is known to be so
WAITS_S = 7.0  # an outbox that is woken by its alarm has sent, settled and said so


class Target(Actor):
    hibernate_after_s = 3600.0  # it stays where it was moved to
    count: int = durable(0)

    async def take(self) -> None:
        self.count += 1

    async def view(self) -> int:
        return self.count


class Sender(Actor):
    async def send(self, count: int, targets: int) -> None:
        for number in range(count):
            await self.env.TARGET.get(str(number % targets)).signal("take")


async def leave_behind(cluster: Cluster, sender: Any, count: int, targets: int, here: int) -> None:
    """Move the sender to the other node while its signals wait there for the target's, which is out of reach."""
    await move(cluster, sender, here)
    cluster.partition(here, TARGET_NODE)
    await sleep(NOTICED_S)
    await cluster.env_at(here).SENDER.get("s").send(count, targets)
    await move(cluster, sender, THERE if here == HERE else HERE)
    await sleep(WAITS_S)
    cluster.heal()
    await sleep(LEASE_S)


def stored(cluster: Cluster, kind: bytes) -> int:
    """Entries of a kind, of all actors."""
    return sum(key.startswith(kind) for actor in cluster.database.actors.values() for key in actor.entries)


async def test_what_lingers_is_an_entry_for_each_target() -> None:
    """However often the sender moves and however many signals it had on their way; after ten minutes nothing is left of it."""
    async with Cluster.of(actors={"target": Target, "sender": Sender}) as cluster:
        sender, targets = cluster.env.SENDER.get("s"), [cluster.env.TARGET.get(str(number)) for number in range(TARGETS)]
        await sender.send(TARGETS, TARGETS)
        for target in targets:
            await move(cluster, target, TARGET_NODE)
        for number in range(MOVES):
            await leave_behind(cluster, sender, SIGNALS, TARGETS, HERE if number % 2 else THERE)
            assert stored(cluster, OUTBOX) == TARGETS
        assert sum([await target.view() for target in targets]) == TARGETS + MOVES * SIGNALS
        await sleep(outbox.LINGER_MS / 1000 + WAITS_S)
        assert stored(cluster, OUTBOX) == stored(cluster, SEEN) == 0


async def test_what_lingers_counts_among_the_signals_of_an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many targets that may get a signal once more: the next one is refused until they need not be remembered."""
    monkeypatch.setattr(outbox, "STORED_MAX", SIGNALS)
    async with Cluster.of(actors={"target": Target, "sender": Sender}) as cluster:
        sender, targets = cluster.env.SENDER.get("s"), [cluster.env.TARGET.get(str(number)) for number in range(SIGNALS)]
        for target in targets:
            await target.take()
            await move(cluster, target, TARGET_NODE)
        await sender.send(0, 1)
        await leave_behind(cluster, sender, SIGNALS, SIGNALS, HERE)
        assert [await target.view() for target in targets] == [2] * SIGNALS
        with pytest.raises(Overloaded, match="20 arrived lately"):
            await sender.send(1, 1)
        assert stored(cluster, OUTBOX) == SIGNALS
        await sleep(outbox.LINGER_MS / 1000 + WAITS_S)
        await sender.send(SIGNALS, SIGNALS)
        await sleep(1.0)
        assert [await target.view() for target in targets] == [3] * SIGNALS
        assert stored(cluster, OUTBOX) == 0
