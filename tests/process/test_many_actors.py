"""More actors than fit in memory. `MANY_ACTORS=100000 pytest tests/process/test_many_actors.py` is the full measure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Serve

pytestmark = pytest.mark.process

ACTORS = int(os.environ.get("MANY_ACTORS", "5000"))
FILL_ACTORS = 1000  # in one request
RESIDENTS_MAX = 1024 * 1024 // 4096  # as many activations as one MiB holds


def listed(client: httpx.Client, unit: str) -> Iterator[str]:
    """The names on all pages."""
    cursor = ""
    while cursor is not None:
        page = client.get(f"/{unit}/page", params={"cursor": cursor} if cursor else {}).json()
        yield from page["names"]
        cursor = page["cursor"]


def test_actors_beyond_memory_are_made_evicted_and_listed(serve: Serve, tmp_path: Path) -> None:
    """All are listed, in order and once; few are in memory; those that are not answer as if they were."""
    with serve(Path(__file__).with_name("many"), tmp_path / "data", "--memory-max-mib", "1") as server, server.client() as client:
        for start in range(0, ACTORS, FILL_ACTORS):
            assert client.post(f"/keyed/fill/{start}/{min(start + FILL_ACTORS, ACTORS)}").is_success
        assert server.stats()["residents"] <= RESIDENTS_MAX
        assert list(listed(client, "keyed")) == [f"{number:07}" for number in range(ACTORS)]
        for number in range(0, ACTORS, ACTORS // 50):
            assert client.get(f"/keyed/{number:07}").text == str(number)
        assert server.stats()["residents"] <= RESIDENTS_MAX


def test_actors_with_sql_are_evicted_and_come_back(serve: Serve, tmp_path: Path) -> None:
    """The same for actors whose database leaves memory with them."""
    actors = ACTORS // 10
    with serve(Path(__file__).with_name("many"), tmp_path / "data", "--memory-max-mib", "1") as server, server.client() as client:
        assert client.post(f"/tabled/fill/0/{actors}").is_success
        assert server.stats()["residents"] < actors
        assert list(listed(client, "tabled")) == [f"{number:07}" for number in range(actors)]
        for number in range(0, actors, actors // 50):
            assert client.get(f"/tabled/{number:07}").text == str(number)
