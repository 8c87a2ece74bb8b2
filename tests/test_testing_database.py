"""The database of tests of several nodes: what is cut off, and what a failover loses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from stead.clock import sleep
from stead.errors import Ambiguous, EngineFailed
from stead.ids import Chance, named_id
from stead.storage.membership import LeaseLost, SharedEngine
from stead.testing import Database, check, current_clock, run
from stead.testing.conformance import claimed, everything
from stead.testing.conformance_shared import SharedConformance, node

A, B = named_id("cart", "a"), named_id("cart", "b")


class TestDatabase(SharedConformance):
    """Without faults it keeps the contract."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        run(work, seed=3)

    async def open_engines(self, place: Any, count: int) -> list[SharedEngine]:
        database, chance = Database(current_clock()), Chance(3)
        return [database.engine(chance) for _ in range(count)]


def test_what_waits_at_a_cut_goes_on_or_is_given_up() -> None:
    """A request waits while the way is cut: mended in time it is answered, later it fails, and a commit is ambiguous."""

    async def scenario(seed: int) -> None:
        database, chance = Database(current_clock()), Chance(seed)
        engine, other = database.engine(chance), database.engine(chance)
        await engine.join(node(0), 600.0)
        await other.join(node(1), 600.0)
        turns = await claimed(engine, A)
        engine.cut()
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(engine.commit([turns.turn({b"k": b"v"})]))
            await sleep(1.0)
            assert not commit.done()
            engine.mend()
        assert commit.result() == [True]
        engine.cut()
        with pytest.raises(EngineFailed):
            await engine.renew()
        with pytest.raises(Ambiguous):
            await engine.commit([turns.turn({b"k": b"w"})])
        assert await everything(other, A) == {b"k": b"v"}

    check(scenario, 10)


def test_a_commit_cut_off_on_its_way_back_is_ambiguous_and_there() -> None:
    """Among the seeds are commits that came through though their answer did not, and commits that did not."""
    outcomes = set()

    async def scenario(seed: int) -> None:
        database, chance = Database(current_clock()), Chance(seed)
        engine = database.engine(chance)
        await engine.join(node(0), 600.0)
        turns = await claimed(engine, A)
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(_outcome(engine.commit([turns.turn({b"k": b"v"})])))
            for _ in range(seed % 7):
                await sleep(0)
            engine.cut()
        if isinstance(commit.result(), Ambiguous):
            outcomes.add(A.text in database.actors)

    check(scenario, 60)
    assert outcomes == {True, False}


def test_a_failover_loses_the_last_commits_and_what_came_with_them() -> None:
    """An asynchronous copy lacks the commits that are said, and claims and leases since; before it nothing commits any more."""

    async def scenario() -> None:
        database = Database(current_clock())
        a, b = (database.engine(Chance(number)) for number in (1, 2))
        await a.join(node(0), 6.0)
        turns = await claimed(a, A)
        assert await a.commit([turns.turn({b"k": b"1"}, alarms={"": 5})]) == [True]
        lost = [turns.turn({b"k": b"2"}, alarms={"": None}), turns.turn({b"k": b"3"})]
        assert await a.commit(lost) == [True, True]
        await b.join(node(1), 6.0)
        late = await claimed(b, B)
        assert database.fail_over(2) == lost
        assert await everything(a, A) == {b"k": b"1"}
        assert [row.due_ms for row in await a.due(9, 9)] == [5]
        with pytest.raises(LeaseLost):
            await b.renew()
        assert await b.commit([late.turn({b"k": b"v"})]) == [False]
        turns.seq = 1
        assert await a.commit([turns.turn({b"k": b"old"})]) == [False]
        again = await claimed(a, A)
        assert again.claim.seq == 1
        assert again.claim.epoch > turns.claim.epoch
        assert again.claim.generation == turns.claim.generation + 1
        assert await a.commit([again.turn({b"k": b"new"})]) == [True]

    run(scenario())


def test_a_failover_to_a_synchronous_copy_loses_nothing() -> None:
    """All that was committed is there; it has to be claimed again all the same."""

    async def scenario() -> None:
        database = Database(current_clock())
        engine = database.engine(Chance(1))
        await engine.join(node(0), 6.0)
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"})])
        assert database.fail_over() == []
        with pytest.raises(LeaseLost):
            await engine.renew()
        assert await engine.commit([turns.turn({b"k": b"w"})]) == [False]
        await engine.join(node(0), 6.0)
        assert (await engine.claim(A)).entries == {b"k": b"v"}

    run(scenario())


async def _outcome(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (Ambiguous, EngineFailed) as exc:
        return exc
