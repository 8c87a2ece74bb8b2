"""Behind PgBouncer in transaction mode, where each statement may run on another server connection."""

from __future__ import annotations

import asyncio

from stead.clock import SystemClock
from stead.ids import named_id
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.testing.conformance import claimed, everything
from tests.postgres.pooler import pooler

ACTORS = 40


def test_behind_a_pooler_in_transaction_mode(postgres: str) -> None:
    """Two nodes claim, commit, read and take over, many at once, though no statement finds the connection of the one before."""

    async def run(dsn: str) -> None:
        engines = [await PostgresEngine.open(dsn, SystemClock(), schema="pooled") for _ in range(2)]
        for number, engine in enumerate(engines):
            await engine.join(NodeInfo(f"node-{number}", "127.0.0.1:1"), 60)
        a, b = engines
        actors = [named_id("cart", str(number)) for number in range(ACTORS)]
        turns = await asyncio.gather(*(claimed(engines[number % 2], actor) for number, actor in enumerate(actors)))
        for round in range(10):
            commits = [engines[n % 2].commit([turn.turn({b"k": b"%d" % round}, alarms={"": n})]) for n, turn in enumerate(turns)]
            assert await asyncio.gather(*commits) == [[True]] * ACTORS
        read = await asyncio.gather(*(everything(b, actor) for actor in actors))
        assert read == [{b"k": b"9"}] * ACTORS
        assert [len(await engine.due(ACTORS, ACTORS)) for engine in engines] == [ACTORS // 2] * 2
        assert len(await a.renew()) == len(await b.renew()) == 2
        await b.leave()
        taken = await claimed(a, actors[1])
        assert await a.commit([taken.turn({b"k": b"taken"})]) == [True]
        assert await b.commit([turns[1].turn({b"k": b"stale"})]) == [False]
        for engine in engines:
            await engine.close()

    with pooler(postgres) as dsn:
        asyncio.run(run(dsn))
