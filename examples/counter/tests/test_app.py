"""The three counters behave alike."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from stead.testing import TestApp

KINDS = pytest.mark.parametrize("kind", ["counter", "kv", "sql"])


async def test_the_front_page_says_hello(client: httpx.AsyncClient) -> None:
    """As plain text."""
    answer = await client.get("/")
    assert answer.text == "hello"
    assert answer.headers["content-type"].startswith("text/plain")


@KINDS
async def test_a_counter_counts(client: httpx.AsyncClient, kind: str) -> None:
    """It starts at 0; POST adds one and answers the new number, GET the current one."""
    answers = [await client.request(method, f"/{kind}/a") for method in ("GET", "POST", "POST", "GET")]
    assert [answer.text for answer in answers] == ["0", "1", "2", "2"]
    assert (await client.get(f"/{kind}/b")).text == "0"


@KINDS
async def test_no_increment_is_lost(client: httpx.AsyncClient, kind: str) -> None:
    """Twenty at once give twenty different numbers."""
    answers = await asyncio.gather(*(client.post(f"/{kind}/a") for _ in range(20)))
    assert sorted(int(answer.text) for answer in answers) == list(range(1, 21))


@KINDS
async def test_a_counter_survives_a_crash(app: TestApp, client: httpx.AsyncClient, kind: str) -> None:
    """What was answered is still so."""
    await client.post(f"/{kind}/a")
    await app.crash()
    assert (await client.post(f"/{kind}/a")).text == "2"
