"""Behind PgBouncer in transaction mode, where each statement may run on another server connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import pytest

from stead.clock import SystemClock
from stead.ids import named_id
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.testing.conformance import claimed, everything
from tests.postgres.server import LIMIT_S, NOBODY, POLL_S, free_port, new_place

ACTORS = 40
CONFIG = """
[databases]
postgres = host=127.0.0.1 port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
logfile = {place}/log
"""


@contextmanager
def pooler(postgres: str) -> Iterator[str]:
    """The address of a PgBouncer before the server. In CI its absence is a failure."""
    path = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pgbouncer is not installed, and CI must not skip it")
        pytest.skip("pgbouncer is not installed")
    listen = free_port()
    with new_place() as place:
        config = place / "pgbouncer.ini"
        config.write_text(CONFIG.format(port=urlsplit(postgres).port, listen=listen, place=place))
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        process = subprocess.Popen([path, "-q", str(config)], cwd=place, **user)  # type: ignore[call-overload]
        try:
            wait_listening(place)
            yield f"postgresql://postgres@127.0.0.1:{listen}/postgres"
        finally:
            process.kill()
            process.wait(LIMIT_S)


def wait_listening(place: Path) -> None:
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not (place / "log").exists() or "listening on" not in (place / "log").read_text():
        assert SystemClock().elapsed_s() < until_s, "pgbouncer does not start"
        Event().wait(POLL_S)


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
