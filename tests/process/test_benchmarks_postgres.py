"""The benchmark's contenders on PostgreSQL count right, and what is measured of them adds up. Without `wrk`: a few requests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks import databases
from benchmarks.client import exchange
from benchmarks.contenders import CONTENDERS, POSTGRES, Contender
from benchmarks.nodes import apart, as_workers
from benchmarks.server import Server, free_ports
from tests.postgres.server import new_place

pytestmark = pytest.mark.process

PATHS = [f"/kv/wpn-{number}" for number in range(40)]
ON_POSTGRES = [contender for contender in CONTENDERS if POSTGRES in contender.serves]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's own user gets to."""
    with new_place() as path:
        yield path


@pytest.mark.parametrize("contender", ON_POSTGRES, ids=lambda contender: contender.name)
def test_what_is_acknowledged_is_counted_and_survives(contender: Contender, place: Path) -> None:
    """Both count each increment once, in a transaction of the database each or fewer, and have it after kill -9 of everything."""
    with Server(contender, place) as server:
        assert set(exchange(server.port, "POST", PATHS).bodies) == {b"1"}
        before = databases.read(server)
        assert set(exchange(server.port, "POST", PATHS).bodies) == {b"2"}
        used = before.until(databases.read(server))
        assert used.transactions > 0 and used.log_bytes >= 50 * len(PATHS)
        assert server.usage().cpu_s > server.usage(of_store=True).cpu_s > 0
        server.kill()
    with Server(contender, place) as server:
        assert set(exchange(server.port, "GET", PATHS).bodies) == {b"2"}


@pytest.mark.parametrize("is_apart", [True, False], ids=["nodes", "workers"])
def test_nodes_share_the_actors(is_apart: bool, place: Path) -> None:
    """Two nodes, or two workers, count in the same actors, of which each has some; their channels are found."""
    more = free_ports(1) if is_apart else []
    commands = partial(apart, more) if is_apart else partial(as_workers, 2)
    with Server(Contender("stead", frozenset({POSTGRES}), commands, str, str), place) as server:
        for count, port in enumerate([server.port, *more, server.port], 1):
            assert set(exchange(port, "POST", PATHS).bodies) == {b"%d" % count}
        owned = databases.owned(server, "kv-counter/wpn-")
        assert sum(owned.values()) == len(PATHS) and len(owned) == 2
        assert len(databases.channel_ports(server)) == 2
