"""The database goes away, and comes back: in the middle of commits, for a while, on another server, from a copy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from stead.clock import SystemClock, sleep
from stead.errors import Ambiguous, EngineFailed
from stead.ids import ActorId, named_id
from stead.storage.membership import NameTaken, NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.storage.postgres import database as asking
from stead.testing.conformance import Turns, claimed, everything
from tests.postgres.faults import LEASE_S, Gate, end_all
from tests.postgres.server import Database, running

A, B = named_id("cart", "a"), named_id("cart", "b")
NODE = NodeInfo("node", "127.0.0.1:1")
LIMIT_S = 60.0
WORKERS = 32
MARK = b"marked"


@pytest.fixture
def database() -> Iterator[Database]:
    with running() as database:
        yield database


async def opened(database: Database, name: str = "node", **options: Any) -> PostgresEngine:
    engine = await PostgresEngine.open(database.dsn, SystemClock(), **options)
    await engine.join(NodeInfo(name, "127.0.0.1:1"), 600)
    return engine


class Counters:
    """Counters that each count what was acknowledged, and what may have been applied besides."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine
        self.acknowledged = 0
        self.failures: list[Exception] = []
        self.ends = asyncio.Event()

    async def count(self, turns: Turns) -> tuple[int, int]:
        """Count until the end; what was acknowledged, and what else may be there."""
        actor = turns.actor
        known, ambiguous = turns.seq, 0
        while not self.ends.is_set():
            commit = turns.turn({b"n": b"%d" % (turns.seq + 1)})
            try:
                [is_applied] = await self.engine.commit([commit])
            except Ambiguous:
                ambiguous += 1
                turns = await self.reclaimed(actor)
            except EngineFailed as error:
                self.failures.append(error)
                turns = await self.reclaimed(actor)
            else:
                assert is_applied, "nobody else owns the counter"
                known = commit.seq
                self.acknowledged += 1
        return known, ambiguous

    async def reclaimed(self, actor: ActorId) -> Turns:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    return await claimed(self.engine, actor)
                except EngineFailed:
                    await sleep(0.05)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.acknowledged < count:
                await sleep(0.01)


def test_server_killed_in_the_middle_of_commits(database: Database) -> None:
    """After kill -9 under load everything acknowledged is there, nothing is there twice, and the engine goes on by itself."""

    async def run() -> None:
        engine = await opened(database)
        counters = Counters(engine)
        actors = [named_id("counter", str(number)) for number in range(WORKERS)]
        turns = [await claimed(engine, actor) for actor in actors]  # before any commits, which go first and leave no connection
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(counters.count(each)) for each in turns]
            for round in range(1, 4):
                await counters.reach(counters.acknowledged + 20 * WORKERS * round)
                await asyncio.to_thread(database.kill)
                await asyncio.to_thread(database.start)
            await counters.reach(counters.acknowledged + 20 * WORKERS)
            counters.ends.set()
        for actor, worker in zip(actors, workers, strict=True):
            known, ambiguous = worker.result()
            claim = await engine.claim(actor)
            assert known <= claim.seq <= known + ambiguous
            assert claim.entries == {b"n": b"%d" % claim.seq}
        assert not counters.failures
        await engine.close()

    asyncio.run(run())


class Cutter:
    """Between engine and server: cuts the connection that a marked commit comes by, before it arrives or after it has run."""

    def __init__(self, port: int, before: bool) -> None:
        self.target = port
        self.before = before
        self.cuts = 0  # still to come
        self._server: asyncio.Server
        self._streams: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """The port to connect to."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        await end_all(self._streams)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        self._streams |= {writer, upstream}
        is_cut = False
        from_client, from_server = (asyncio.ensure_future(stream.read(1 << 16)) for stream in (reader, upstream_reader))  # noqa: TID251
        while not is_cut:
            await asyncio.wait([from_client, from_server], return_when=asyncio.FIRST_COMPLETED)
            if from_client.done():
                data = from_client.result()
                is_cut = not data or (self.cuts > 0 and MARK in data)
                if not (is_cut and self.before):
                    upstream.write(data)
                from_client = asyncio.ensure_future(reader.read(1 << 16))  # noqa: TID251
            elif from_server.done():
                data = from_server.result()
                is_cut = not data
                writer.write(data)
                from_server = asyncio.ensure_future(upstream_reader.read(1 << 16))  # noqa: TID251
            if is_cut and data:
                self.cuts -= 1
                if not self.before:
                    await from_server  # the answer: the commit has run
        for task in (from_client, from_server):
            task.cancel()
        await asyncio.wait([from_client, from_server])
        for end in (writer, upstream):
            end.transport.abort()


@pytest.mark.parametrize("before", [False, True])
def test_unknown_outcomes_are_found_out(database: Database, before: bool) -> None:
    """A connection cut after the commit ran, or before it arrived: the caller hears True, and it is there once."""

    async def run() -> None:
        cutter = Cutter(database.port, before)
        port = await cutter.start()
        engine = await PostgresEngine.open(database.dsn.replace(str(database.port), str(port)), SystemClock())
        await engine.join(NODE, 600)
        a, b = await claimed(engine, A), await claimed(engine, B)
        for number in range(3):
            cutter.cuts = 1
            batch = [a.turn({b"k": MARK + b"%d" % number}), b.turn({b"k": b"%d" % number})]
            async with asyncio.timeout(LIMIT_S):
                assert await engine.commit(batch) == [True, True]
            assert cutter.cuts == 0
            assert await everything(engine, A) == {b"k": MARK + b"%d" % number}
            assert await everything(engine, B) == {b"k": b"%d" % number}
        await engine.close()
        await cutter.close()

    asyncio.run(run())


def test_an_outcome_that_stays_unknown_is_ambiguous(database: Database) -> None:
    """A server that does not come back within the bound leaves `Ambiguous`; what was not sent at all is `EngineFailed`."""

    async def run() -> None:
        cutter = Cutter(database.port, before=False)
        port = await cutter.start()
        engine = await PostgresEngine.open(database.dsn.replace(str(database.port), str(port)), SystemClock(), outcome_s=0.5)
        await engine.join(NODE, 600)
        a = await claimed(engine, A)
        cutter.cuts = 1
        sent = asyncio.gather(engine.commit([a.turn({b"k": MARK})]), return_exceptions=True)
        while cutter.cuts:
            await sleep(0.001)
        await asyncio.to_thread(database.kill)
        [error] = await sent
        assert isinstance(error, Ambiguous)
        with pytest.raises(EngineFailed, match="does not answer"):
            await engine.commit([a.turn()])
        await asyncio.to_thread(database.start)
        assert (await engine.claim(A)).entries == {b"k": MARK}
        await engine.close()
        await cutter.close()

    asyncio.run(run())


def test_a_join_whose_answer_is_lost_keeps_nobody_out(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that wakes knows its own unanswered joins, marks and all. Others under its name keep it out as ever.

    Nor does a join that arrives late take the place of a later one.
    """
    monkeypatch.setattr(asking, "RETRY_S_MAX", 0.1)
    marked = NodeInfo(MARK.decode(), "127.0.0.1:1")

    async def run() -> None:
        cutter = Cutter(database.port, before=False)
        port = await cutter.start()
        engine = await PostgresEngine.open(database.dsn.replace(str(database.port), str(port)), SystemClock())
        other = await opened(database, "other")
        seen: set[int] = set()

        async def lose() -> None:
            """Join without hearing of it."""
            cutter.cuts = 1000
            with pytest.raises(EngineFailed):
                await engine.join(marked, 600, takes_name=False)
            cutter.cuts = 0
            assert engine.incarnation not in await lives()

        async def lives() -> list[int]:
            return [member.incarnation for member in await other.renew() if member.info.name == marked.name]

        for number in range(2):
            for _ in range(2):
                await lose()
                seen.update(await lives())
            assert await other.set_draining(marked.name, True)
            await engine.join(marked, 600, takes_name=False)
            assert engine.incarnation not in seen and await lives() == [engine.incarnation]
            [mark] = [member.is_draining for member in await engine.renew() if member.incarnation == engine.incarnation]
            assert mark
            seen.add(engine.incarnation)
            late = (marked.name, min(seen), msgspec.msgpack.encode(marked), 600, False, min(seen), False)
            assert await engine._ask(engine._statements.join, *late) == []
            assert await lives() == [engine.incarnation], "a join that arrived late has replaced a later one"
            assert len(seen) == 3 * (number + 1)
        await lose()
        successor = await opened(database, marked.name)
        with pytest.raises(NameTaken):
            await engine.join(marked, 600, takes_name=False)
        assert await lives() == [successor.incarnation]
        await successor.leave()
        await lose()
        await engine.leave()
        assert await lives() == [], "who leaves leaves no join behind"
        for one in (engine, other, successor):
            await one.close()
        await cutter.close()

    asyncio.run(run())


def test_connections_that_have_fallen_silent_cost_no_lease(postgres: str) -> None:
    """As where a firewall has forgotten them: a renewal is sent again in time on a new connection, and all that waits after it."""

    async def run() -> None:
        gate = Gate(httpx.URL(postgres).port or 0)
        await gate.start()
        engine = await PostgresEngine.open(str(httpx.URL(postgres).copy_with(port=gate.port)), SystemClock(), schema="silent")
        await engine.join(NODE, LEASE_S)
        await asyncio.gather(*(engine.claim(named_id("cart", str(number))) for number in range(16)))
        turns = await claimed(engine, A)
        for _ in range(2):
            gate.silence()
            under_way = asyncio.gather(engine.commit([turns.turn({b"k": b"v"})]), engine.read(B, [b"k"]))
            await sleep(0.1)
            async with asyncio.timeout(LEASE_S):
                assert [member.incarnation for member in await engine.renew()] == [engine.incarnation]
                await asyncio.gather(*(engine.claim(named_id("cart", str(number))) for number in range(16)))
                assert list(await under_way) == [[True], {}]
        await engine.close()
        await gate.close()

    asyncio.run(run())
