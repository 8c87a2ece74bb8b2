"""Actors are where the manifest wishes them, or who asked for them, as far as nodes there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stead import Actor, Invalid, Unavailable, durable
from stead.clock import sleep
from stead.cluster.balancing import SETTLE_S
from stead.node import LoadedApplication
from stead.testing import Cluster, Place, TestApp

pytestmark = pytest.mark.usefixtures("clock")

EU, US, US_FAST = Place("eu"), Place("us"), Place("us", {"disk": "fast"})
NAMES = [f"a{number}" for number in range(20)]
MANIFEST = """application "placed" {
  actor "anywhere" { handler = "app:Counter" }
  actor "european" { handler = "app:Counter" placement { region = "eu" } }
  actor "strict"   { handler = "app:Counter" placement { region = "eu" strict = true } }
  actor "quick"    { handler = "app:Counter" placement { labels = { disk = "fast" } } }
}
"""
APP = """from stead import Actor, durable


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value
"""


class Counter(Actor):
    hibernate_after_s = 60.0
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


def counters() -> LoadedApplication:
    return TestApp.of(actors={"counter": Counter}).application


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


async def call_all(namespace: Any, *, hint: str | None = None) -> list[Any]:
    stubs = [namespace.get(name, location_hint=hint) for name in NAMES]
    for stub in stubs:
        await stub.add()
    return stubs


def owners(cluster: Cluster, stubs: Sequence[Any]) -> set[int | None]:
    return {cluster.owner(stub) for stub in stubs}


async def test_actors_are_where_the_manifest_wishes_them(application: Path) -> None:
    """Whoever calls from wherever; what names no place is everywhere."""
    async with Cluster(application, places=[EU, US, US_FAST]) as cluster:
        for node in range(3):
            env = cluster.env_at(node)
            assert owners(cluster, await call_all(env.EUROPEAN)) == {0}
            assert owners(cluster, await call_all(env.STRICT)) == {0}
            assert owners(cluster, await call_all(env.QUICK)) == {2}
            assert owners(cluster, await call_all(env.ANYWHERE)) == {0, 1, 2}


async def test_where_nobody_meets_a_wish_others_do(application: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so once; a node that meets it and joins gets the actors, and who calls sees nothing of it."""
    async with Cluster(application, places=[EU, US, US]) as cluster:
        await cluster.stop(0)
        env = cluster.env_at(1)
        stubs = await call_all(env.EUROPEAN)
        assert owners(cluster, stubs) == {1, 2}
        assert sum("no live node has region 'eu'" in record.message for record in caplog.records) <= 2, "each node says it once"
        await cluster.restart(0)
        await sleep(SETTLE_S * 2)
        assert owners(cluster, stubs) == {0}
        assert [await stub.add() for stub in stubs] == [2] * len(stubs)


async def test_an_actor_that_is_in_no_memory_comes_back_where_it_is_wished(application: Path) -> None:
    """Though others remember who had it last."""
    async with Cluster(application, places=[EU, US, US]) as cluster:
        await cluster.stop(0)
        stubs = [cluster.env_at(node).EUROPEAN.get(name) for node in (1, 2) for name in NAMES]
        for stub in stubs:
            await stub.add()
        await sleep(120)  # until all have left memory
        assert owners(cluster, stubs) == {None}
        await cluster.restart(0)
        await sleep(SETTLE_S / 2)  # until all have heard of it, and before anything moves
        for stub in stubs:
            await stub.add()
        assert owners(cluster, stubs) == {0}


async def test_a_strict_wish_that_nobody_meets_refuses(application: Path) -> None:
    """The error names the region; once there is such a node the actor is there. No order brings it elsewhere."""
    async with Cluster(application, places=[EU, US, US]) as cluster:
        stub = cluster.env_at(1).STRICT.get("a")
        await stub.add()
        await cluster.stop(0)
        with pytest.raises(Unavailable, match="no live node has region 'eu'"):
            await stub.add()
        await cluster.restart(0)
        await sleep(2)
        assert await stub.add() == 2
        assert cluster.owner(stub) == 0


async def test_a_hint_decides_where_an_actor_begins() -> None:
    """And nothing where a node has it; one that no node meets is no obstacle."""
    async with Cluster(counters(), places=[EU, US, US]) as cluster:
        env = cluster.env_at(1)
        assert owners(cluster, stubs := await call_all(env.COUNTER, hint="eu")) == {0}
        assert owners(cluster, await call_all(env.COUNTER, hint="us")) == {0}
        assert owners(cluster, await call_all(cluster.env_at(2).COUNTER)) == {0}
        await sleep(120)  # until all have left memory
        assert owners(cluster, stubs) == {None}
        assert await env.COUNTER.get("elsewhere", location_hint="asia").add() == 1


async def test_an_actor_stays_in_its_region_when_its_node_drains() -> None:
    """While the region has another node; nothing leaves it for a newcomer either."""
    async with Cluster(counters(), places=[EU, EU, US]) as cluster:
        stubs = await call_all(cluster.env_at(2).COUNTER, hint="eu")
        assert owners(cluster, stubs) == {0, 1}
        await cluster.stop(0)
        assert owners(cluster, stubs) == {1}
        await cluster.restart(2)
        await sleep(SETTLE_S * 2)
        assert owners(cluster, stubs) == {1}
        await cluster.restart(0)
        await sleep(SETTLE_S * 2)
        assert owners(cluster, stubs) == {0, 1}


async def test_a_hint_is_a_regions_name() -> None:
    """On one node it has no effect; what is no name of a region is refused there, too."""
    async with TestApp(counters()) as alone:
        assert await alone.env.COUNTER.get("a", location_hint="eu").with_idempotency_key("k").add() == 1
        for wrong in ("", "x" * 65, 7):
            with pytest.raises(Invalid, match="location hint"):
                alone.env.COUNTER.get("a", location_hint=wrong)
