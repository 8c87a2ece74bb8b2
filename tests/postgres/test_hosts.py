"""Three nodes on hosts of their own, of which one is cut off: by real networks, in which packets vanish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from stead.clock import sleep
from tests.postgres.faults import CLOCK, FAULTY, KEY, LEASE_S, Client, Gate, load, summary, until
from tests.postgres.hosts import Host, hosts
from tests.postgres.server import Database, running
from tests.process.conftest import LIMIT_S, serving

pytestmark = pytest.mark.process

HTTP_PORT, CHANNEL_PORT = 8700, 8701
ALL_CUTS = (("peers",), ("database",), ("peers", "database"))
CUTS = ALL_CUTS if os.environ.get("STEAD_TEST_LONG") else ALL_CUTS[:1]  # `test_faults.py` tries all with gates in between


def test_a_host_is_cut_off(tmp_path: Path) -> None:
    """From its database, from its peers, from both: the others serve every actor, and take it back without help."""
    with hosts(3) as places, running() as database:
        asyncio.run(_run(places, database, tmp_path))


async def _run(places: Sequence[Host], database: Database, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=httpx.Timeout(LIMIT_S, connect=1.0)))
        for place in places:
            await _start(stack, place, database, tmp_path)
        urls = [f"http://{place.address}:{HTTP_PORT}" for place in places]
        last = places[-1]
        near = f"http://{last.near}:{HTTP_PORT}"
        for url in urls:
            await until(lambda url=url: _is_ready(http, url))  # type: ignore[misc]
        for wires in CUTS:
            async with load(http, urls[:2], "-".join(wires)) as clients:
                owners = [Client(http, [near], f"{wires[0]}-{len(wires)}-{number}") for number in range(12)]
                await asyncio.gather(*(client.ask("POST", near) for client in owners))
                for wire in wires:
                    last.cut(wire)
                began_s = CLOCK.elapsed_s()
                await until(lambda owners=owners: _all_ok(owners, urls[0]))  # type: ignore[misc]
                served_s = CLOCK.elapsed_s() - began_s
                if len(wires) == 1:
                    answering = urls[-1] if wires == ("database",) else near
                    await until(lambda answering=answering: _is_not_ready(http, answering))  # type: ignore[misc]
                await sleep(LEASE_S)
                last.mend()
                began_s = CLOCK.elapsed_s()
                await until(lambda: _is_ready(http, urls[-1]))
                back_s = CLOCK.elapsed_s() - began_s
                for client in owners:
                    await client.finish(urls[-1])
            print(f"\ncut off from {' and '.join(wires)}: all served by others after {served_s:.1f} s,")
            print(f"back {back_s:.1f} s after the end; {summary(clients)}")


async def _start(stack: AsyncExitStack, place: Host, database: Database, tmp_path: Path) -> None:
    way = Gate(database.port)
    await way.start(place.database)
    stack.push_async_callback(way.close)
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    flags = ["--engine", f"postgresql://postgres@{place.database}:{way.port}/postgres", "--node-name", f"node-{place.number}"]
    flags += ["--host", "0.0.0.0", "--port", str(HTTP_PORT), "--cluster-key-file", str(key), "--lease-s", str(LEASE_S)]
    flags += ["--cluster-listen", f"0.0.0.0:{CHANNEL_PORT}", "--cluster-address", f"{place.address}:{CHANNEL_PORT}"]
    entry = serving(FAULTY, tmp_path / f"node-{place.number}", *flags, tracer=place.tracer)
    await asyncio.to_thread(entry.__enter__)
    stack.push_async_callback(asyncio.to_thread, entry.__exit__, None, None, None)


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/_stead/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def _is_not_ready(http: httpx.AsyncClient, url: str) -> bool:
    return not await _is_ready(http, url)


async def _all_ok(clients: Sequence[Client], url: str) -> bool:
    return all([await client.ask("POST", url) == "ok" for client in clients])
