"""Failing over to a copy, synchronous or behind, and the fence that holds over it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stead.clock import SystemClock, sleep
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.membership import LeaseLost, NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.storage.postgres.fence import COUNTER_BITS
from stead.testing.conformance import claimed, everything
from tests.postgres.server import Database, new_place, running

A, B, C = named_id("cart", "a"), named_id("cart", "b"), named_id("cart", "c")
LIMIT_S = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[Database, Database]]:
    """A primary and its standby, which follows."""
    with running() as primary, new_place() as place, ExitStack() as ends:
        standby = Database(place)
        standby.copy_of(primary)
        standby.start()
        ends.callback(standby.stop)
        yield primary, standby


async def opened(*databases: Database, name: str = "node") -> PostgresEngine:
    """An engine that goes to whichever of the servers takes writes."""
    hosts = ",".join(f"127.0.0.1:{database.port}" for database in databases)
    engine = await PostgresEngine.open(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write", SystemClock())
    await engine.join(NodeInfo(name, "127.0.0.1:1"), 600)
    return engine


async def until(database: Database, condition: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await asyncio.to_thread(database.query, f"SELECT {condition}") != "t":
            await sleep(0.02)


async def fail_over(primary: Database, standby: Database) -> None:
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(standby.promote)


def test_synchronous_standby_loses_nothing(pair: tuple[Database, Database]) -> None:
    """With a synchronous standby every acknowledged commit survives the primary, and the engine finds the new one by itself.

    What was claimed before commits no more and is claimed again with a larger epoch.
    """

    async def run() -> None:
        primary, standby = pair
        await asyncio.to_thread(primary.query, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        await asyncio.to_thread(primary.query, "SELECT pg_reload_conf()")
        await until(primary, "EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')")
        engine = await opened(primary, standby)
        turns = [await claimed(engine, actor) for actor in (A, B)]
        for number in range(20):
            assert await engine.commit([turn.turn({b"k": b"%d" % number}) for turn in turns]) == [True, True]
        await fail_over(primary, standby)
        assert await engine.commit([turns[0].turn({b"k": b"of the old timeline"})]) == [False]
        with pytest.raises(LeaseLost):
            await engine.renew()
        for turn in turns:
            again = await claimed(engine, turn.actor)
            assert (again.claim.seq, again.claim.entries) == (20, {b"k": b"19"})
            assert again.claim.epoch >> COUNTER_BITS > turn.claim.epoch >> COUNTER_BITS
            assert again.claim.generation > turn.claim.generation > 0
            assert await engine.commit([again.turn({b"k": b"new"})]) == [True]
        await engine.close()

    asyncio.run(run())


def test_standby_that_is_behind_brings_no_earlier_claim_back(pair: tuple[Database, Database]) -> None:
    """Claims and commits that the copy lacks are gone, and so is the right to commit of those whose claims it has.

    The node that had claimed before the copy fell behind, and has been fenced since, cannot commit on the copy, though there it
    is the owner still.
    """

    async def run() -> None:
        primary, standby = pair
        first = await opened(primary, standby, name="first")
        second = await opened(primary, standby, name="second")
        old = await claimed(first, A)
        assert await first.commit([old.turn({b"k": b"old"})]) == [True]
        lsn = await asyncio.to_thread(primary.query, "SELECT pg_current_wal_insert_lsn()")
        await until(standby, f"pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn")
        await asyncio.to_thread(standby.query, "SELECT pg_wal_replay_pause()")
        await asyncio.to_thread(standby.stop)  # what it has received and not replayed would be replayed at its promotion
        await first.release(A, old.claim.epoch)
        new = await claimed(second, A)
        assert await second.commit([new.turn({b"k": b"new"})]) == [True]
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.promote)
        assert await first.commit([old.turn({b"k": b"back"})]) == [False]
        assert await second.commit([new.turn({b"k": b"gone"})]) == [False]
        again = await claimed(first, A)
        assert again.claim.entries == {b"k": b"old"}
        assert again.claim.epoch > max(old.claim.epoch, new.claim.epoch)
        assert await first.commit([again.turn({b"k": b"again"})]) == [True]
        assert await second.commit([new.turn({b"k": b"gone"})]) == [False]
        assert await everything(second, A) == {b"k": b"again"}
        await first.close()
        await second.close()

    asyncio.run(run())


def test_another_cluster_is_refused(pair: tuple[Database, Database]) -> None:
    """An engine whose address leads to another cluster than before neither claims nor commits there."""

    async def run() -> None:
        primary, _ = pair
        engine = await opened(primary)
        turns = await claimed(engine, A)
        engine._database.fence.began_with += 1  # as if the engine had begun elsewhere
        with pytest.raises(EngineFailed, match="another database cluster"):
            await engine.claim(B)
        assert await engine.commit([turns.turn({b"k": b"v"})]) == [False]
        await engine.close()

    asyncio.run(run())


def test_a_standby_is_refused(pair: tuple[Database, Database]) -> None:
    """A node that is given the address of a standby says so at the start."""

    async def run() -> None:
        with pytest.raises(EngineFailed, match="takes no writes, as a standby does"):
            await PostgresEngine.open(pair[1].dsn, SystemClock())

    asyncio.run(run())


def test_a_standby_is_not_read(pair: tuple[Database, Database]) -> None:
    """Where an address names several servers and the primary is away, its standby is not asked: what it has may be out of date."""

    async def run() -> None:
        primary, standby = pair
        hosts = ",".join(f"127.0.0.1:{database.port}" for database in pair)
        engine = await PostgresEngine.open(f"postgresql://postgres@{hosts}/postgres", SystemClock())
        await engine.join(NodeInfo("node", "127.0.0.1:1"), 600)
        turns = await claimed(engine, A)
        assert await engine.commit([turns.turn({b"k": b"old"})]) == [True]
        await until(standby, "EXISTS (SELECT 1 FROM stead.entries)")
        await asyncio.to_thread(standby.query, "SELECT pg_wal_replay_pause()")
        assert await engine.commit([turns.turn({b"k": b"new"})]) == [True]
        await asyncio.to_thread(primary.kill)
        with pytest.raises(EngineFailed, match="takes no writes, as a standby does"):
            await engine.read(A, [b"k"])
        await asyncio.to_thread(primary.start)
        assert await engine.read(A, [b"k"]) == {b"k": b"new"}
        await engine.close()

    asyncio.run(run())


def test_a_lease_is_not_taken_from_under_a_renewal(pair: tuple[Database, Database]) -> None:
    """Who wants an actor of an expired node ends that node first: its next renewal raises, it is never owner beside another."""

    async def run() -> None:
        primary, _ = pair
        late, other = await opened(primary, name="late"), await opened(primary, name="other")
        await late.claim(A)
        await asyncio.to_thread(primary.query, "UPDATE stead.nodes SET expires_at = clock_timestamp() WHERE name = 'late'")
        await other.claim(A)
        assert await asyncio.to_thread(primary.query, "SELECT name FROM stead.nodes") == "other"
        with pytest.raises(LeaseLost):
            await late.renew()
        with pytest.raises(LeaseLost):
            await late.claim(C)
        await late.close()
        await other.close()

    asyncio.run(run())
