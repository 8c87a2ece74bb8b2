"""An actor's SQL on an engine that is a network away."""

from __future__ import annotations

import asyncio

from stead import Actor, reads
from stead.clock import SystemClock
from stead.ids import Chance
from stead.runtime import Limits, Runtime
from stead.storage.entries import WHOLE_BYTES_MAX
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from tests.postgres.conftest import OpenPostgres

ROWS = 1300


class Archive(Actor):
    async def fill(self) -> int:
        await self.sql.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT, flag INTEGER DEFAULT 0)")
        for n in range(ROWS):
            await self.sql.execute("INSERT INTO t (n, text) VALUES (?, ?)", n, f"{n:04}" * 1000)
        return await self.sql.size_bytes()

    @reads
    async def sum(self) -> tuple[int, int]:
        row = await self.sql.fetch_one("SELECT sum(n) AS sum, sum(length(text)) AS size FROM t")
        assert row is not None
        return int(str(row["sum"])), int(str(row["size"]))

    async def flag(self, every: int) -> int:
        return await self.sql.execute("UPDATE t SET flag = 1 WHERE n % ? = 0", every)

    @reads
    async def row(self, n: int) -> str:
        return str(await self.sql.fetch_value("SELECT substr(text, 1, 4) FROM t WHERE n = ?", n))

    async def check(self) -> str:
        return str(await self.sql.fetch_value("PRAGMA quick_check"))


def runtime(engine: PostgresEngine) -> Runtime:
    return Runtime(
        actors={"archive": Archive},
        services={},
        clients={},
        engine=engine,
        clock=SystemClock(),
        chance=Chance(1),
        variables={},
        service_variables={},
        limits=Limits(resident_bytes_max=64 * 1024 * 1024, stop_grace_s=5.0),
    )


def test_a_database_of_five_mib(open_postgres: OpenPostgres) -> None:
    """A database larger than memory is written, read whole, side by side and by key, and changed; another node finds it all."""

    async def run() -> None:
        for is_first in (True, False):
            engine = await open_postgres()
            await engine.join(NodeInfo("node", "127.0.0.1:1"), 60)
            node = runtime(engine)
            await node.start()
            box = node.env.ARCHIVE.get("a")
            if is_first:
                assert await box.fill() > 5 * WHOLE_BYTES_MAX
                assert await box.flag(2) == ROWS // 2
            assert list(await asyncio.gather(box.sum(), box.sum())) == [(ROWS * (ROWS - 1) // 2, ROWS * 4000)] * 2
            assert await asyncio.gather(*(box.row(n) for n in range(0, ROWS, 100))) == [f"{n:04}" for n in range(0, ROWS, 100)]
            assert await box.flag(13) == ROWS // 13
            assert await box.check() == "ok"
            await node.close()
            await engine.close()

    asyncio.run(run())
