"""The server that these tests share, and engines in schemas of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from stead.clock import SystemClock
from stead.storage.postgres import PostgresEngine
from tests.postgres.server import execute, shared

TABLES = ("actors", "entries", "pieces", "alarms", "nodes")


class OpenPostgres(Protocol):
    """Opens an engine; those of one `place` share their data, and a new place is empty and ends the one before."""

    async def __call__(self, place: str = "", **options: Any) -> PostgresEngine: ...


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server: STEAD_TEST_POSTGRES, or one for all workers of this run."""
    given = os.environ.get("STEAD_TEST_POSTGRES")
    if given:
        yield given
        return
    base = tmp_path_factory.getbasetemp()
    place: Path = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared(place) as dsn:
        yield dsn


@pytest.fixture
def open_postgres(postgres: str) -> OpenPostgres:
    """Engines of this test, in one schema for each process: making tables takes longer than most tests."""
    schema = schema_of_this_process()
    seen: set[str] = set()

    async def open_engine(place: str = "", **options: Any) -> PostgresEngine:
        engine = await PostgresEngine.open(postgres, SystemClock(), schema=schema, **options)
        if place not in seen:
            seen.add(place)
            await engine._database.connections.lend(_empty)
        return engine

    return open_engine


@pytest.fixture
def dsn(postgres: str) -> Iterator[str]:
    """A database of its own: other processes of this run share the server."""
    name = f"own_{schema_of_this_process()}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name}"))
    yield f"{postgres.rpartition('/')[0]}/{name}"
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


def schema_of_this_process() -> str:
    return f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"


async def _empty(connection: Any) -> None:
    await connection.execute("".join(f"DELETE FROM {schema_of_this_process()}.{table};" for table in TABLES))
