"""Signals whose sender moves while they are on their way."""

from __future__ import annotations

from typing import Any

import pytest

from stead import Actor, Unavailable, durable
from stead.clock import sleep
from stead.logic.lease import LEASE_S
from stead.runtime import outbox
from stead.testing import Cluster, run

SEEDS = 5
SENDER_NODE, TARGET_NODE, OTHER_NODE = range(3)
SETTLED_S = 6.5  # an outbox that is woken by its alarm has sent, settled and said so; what waits in a router still waits


class Target(Actor):
    count: int = durable(0)

    async def take(self) -> None:
        self.count += 1

    async def view(self) -> int:
        return self.count


class Sender(Actor):
    sent: int = durable(0)

    async def send(self) -> None:
        self.sent += 1
        await self.env.TARGET.get("t").signal("take")


async def moved(cluster: Cluster, sender: Any) -> None:
    """Move the sender from its node; who is asked to may be the one that cannot reach it."""
    while True:
        try:
            assert await cluster.move(sender, OTHER_NODE)
            return
        except Unavailable:
            await sleep(0.1)


async def moved_with_a_signal_on_its_way(seed: int) -> int:
    """How often a signal took effect whose sender moved while its node could not reach the target's."""
    async with Cluster.of(actors={"target": Target, "sender": Sender}, nodes=3, seed=seed) as cluster:
        target, sender = cluster.env.TARGET.get("t"), cluster.env.SENDER.get("s")
        await target.view()
        assert await cluster.move(target, TARGET_NODE)
        await sender.send()
        await sleep(1)
        assert await cluster.move(sender, SENDER_NODE)
        before: int = await target.view()
        cluster.partition(SENDER_NODE, TARGET_NODE)
        await sleep(2)
        await cluster.env_at(SENDER_NODE).SENDER.get("s").send()
        await moved(cluster, sender)
        await sleep(SETTLED_S)
        cluster.heal()
        await sleep(2 * LEASE_S)
        return int(await target.view()) - before


def test_a_signal_whose_sender_moved_takes_effect_once() -> None:
    """The sender's new node sends it again, and the target may forget it: what waits on the node before never leaves."""
    for seed in range(SEEDS):
        assert run(moved_with_a_signal_on_its_way(seed), seed=seed) == 1, seed


def test_a_copy_that_stays_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: where a sender's node forgets to end what it had sent, the signal takes effect twice."""
    monkeypatch.setattr(outbox._Verdict, "done", lambda self: False)
    assert any(run(moved_with_a_signal_on_its_way(seed), seed=seed) > 1 for seed in range(SEEDS))
