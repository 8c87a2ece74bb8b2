"""Real nodes over one PostgreSQL while something fails: nothing acknowledged is lost or counted twice, and all recovers by itself.

`pytest -s` shows what clients saw and how long it took. STEAD_TEST_OUTAGE_S is for how long the database is gone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from stead.clock import sleep
from tests.postgres.faults import CLOCK, FAULTY, LEASE_S, PATIENCE_S, Client, Field, field, load, summary, until
from tests.postgres.server import Database, running
from tests.process.conftest import LIMIT_S

pytestmark = pytest.mark.process

OUTAGE_S = float(os.environ.get("STEAD_TEST_OUTAGE_S", "8"))
SKEWED = Path(__file__).with_name("skewed.py")
HOUR_S = 3600
ARRIVE_S = 0.3  # for requests to arrive at a process that sleeps
DISK_BYTES = 12 * 1024 * 1024


@pytest.fixture
def database() -> Iterator[Database]:
    """A server of its own, to be stopped."""
    with running() as database:
        yield database


@pytest.mark.parametrize(("how", "said"), [("stopped", "could not renew its lease"), ("silent", "has lost its lease")])
def test_the_database_is_gone_for_longer_than_the_lease(database: Database, tmp_path: Path, how: str, said: str) -> None:
    """No node dies, clients are told to try again, and soon after it is back they count on, alarms ring and jobs are done."""

    async def run() -> None:
        async with field(tmp_path, database.dsn, "ann", "bob") as nodes:
            ann, bob = nodes.url("ann"), nodes.url("bob")
            async with load(nodes.http, [ann, bob]) as clients:
                await sleep(1.0)
                for url in (f"{ann}/ring/counter/rung/{OUTAGE_S / 2}", f"{ann}/jobs/send/done"):
                    (await nodes.http.post(url)).raise_for_status()
                async with _without_database(nodes, database, how):
                    await sleep(OUTAGE_S)
                    assert not await nodes.is_ready("ann") and not await nodes.is_ready("bob")
                    refusal = await nodes.http.get(f"{ann}/counter/other")
                    assert refusal.status_code == 503 and refusal.headers["retry-after"]
                ready_s = [await nodes.wait_ready(name) for name in ("ann", "bob")]
                known = [client.known for client in clients]
                counting_s = await until(lambda: _all_count(clients, known))
                late_s = await until(lambda: _counts(nodes, bob, "rung", 1))
                done_s = await until(lambda: _counts(nodes, bob, "done", 1))
            assert {client.answers["POST ok"] > 0 for client in clients} == {True}
            assert all(server.process.poll() is None for server in nodes.servers.values())
            assert all(said in nodes.log(name) for name in ("ann", "bob"))
            print(f"\ndatabase {how} for {OUTAGE_S:g} s: {summary(clients)}; ready {ready_s}, counting {counting_s:.1f} s later,")
            print(f"alarm {late_s:.1f} s, job {done_s:.1f} s after that")

    asyncio.run(run())


def test_the_database_has_no_connection_left(database: Database, tmp_path: Path) -> None:
    """A stranger takes every connection: clients are told to try again, the log says why, and all goes on once he is gone."""

    async def run() -> None:
        async with field(tmp_path, database.dsn, "cleo", "dan") as nodes:
            urls = [nodes.url("cleo"), nodes.url("dan")]
            async with load(nodes.http, urls) as clients:
                await sleep(0.5)
                hog = await _every_connection(database)
                await until(lambda: _is_unready(nodes, "cleo"))
                await until(lambda: _says(nodes, "cleo", "the server has no connection left: raise max_connections"))
                for connection in hog:
                    await connection.close()
                known = [client.known for client in clients]
                counting_s = await until(lambda: _all_count(clients, known))
            print(f"\nconnections exhausted: {summary(clients)}; counting again after {counting_s:.1f} s")

    asyncio.run(run())


def test_a_node_sleeps_past_its_lease(dsn: str, tmp_path: Path) -> None:
    """What the sleeper has to answer when it wakes is nothing that has been overtaken, and it joins again by itself."""

    async def run() -> None:
        async with field(tmp_path, dsn, "ann", "bob") as nodes:
            ann, bob = nodes.url("ann"), nodes.url("bob")
            clients = [Client(nodes.http, [ann, bob], f"sleepy-{number}") for number in range(16)]
            await asyncio.gather(*(client.ask("POST", bob) for client in clients))
            async with asyncio.TaskGroup() as tasks:
                for client in clients:  # turns and reads under way in the node when it falls asleep
                    tasks.create_task(client.ask("POST", bob, pause_s=1.0))
                    tasks.create_task(client.ask("GET", bob, pause_s=1.0))
                await sleep(0.5)
                nodes.servers["bob"].process.send_signal(signal.SIGSTOP)
                began_s = CLOCK.elapsed_s()
                for client in clients:  # and some that wait at its door
                    tasks.create_task(client.ask("GET", bob))
                for client in clients:
                    await until(lambda client=client: _ok(client, ann))  # type: ignore[misc]
                taken_s = CLOCK.elapsed_s() - began_s
                for client in clients:  # whose answers have to show what has been counted since
                    tasks.create_task(client.ask("GET", bob))
                    tasks.create_task(client.ask("POST", bob))
                await sleep(ARRIVE_S)
                nodes.servers["bob"].process.send_signal(signal.SIGCONT)
            woken_s = await nodes.wait_ready("bob")
            for client in clients:
                await client.finish(bob)
                await client.finish(ann)
            assert "has lost its lease and gives up its actors" in nodes.log("bob")
            print(f"\nfrozen: all taken over after {taken_s:.1f} s, back after {woken_s:.1f} s; {summary(clients)}")

    asyncio.run(run())


def test_a_node_is_cut_off(dsn: str, tmp_path: Path) -> None:
    """From its database, from its peer, from both: the other node serves every actor meanwhile, and afterwards both do."""

    async def cut(nodes: Field, name: str, *gates: str) -> None:
        ann, bob = nodes.url("ann"), nodes.url("bob")
        gates_of = {"database": [nodes.ways["bob"]], "peer": list(nodes.doors.values())}
        shut = [gate for kind in gates for gate in gates_of[kind]]
        async with load(nodes.http, [ann, bob], name) as clients:
            await sleep(0.5)
            for gate in shut:
                gate.shut()
            began_s = CLOCK.elapsed_s()
            await until(lambda: _is_unready(nodes, "bob"))
            unready_s = CLOCK.elapsed_s() - began_s
            probes = [Client(nodes.http, [ann], f"{name[-4:]}-probe-{number}") for number in range(12)]
            await until(lambda: _all_ok(probes, ann))
            served_s = CLOCK.elapsed_s() - began_s
            if gates == ("peer",):
                await until(lambda: _says(nodes, "bob", "has a channel to none of the 1 other nodes"))
            for gate in shut:
                gate.open()
            began_s = CLOCK.elapsed_s()
            await nodes.wait_ready("bob")
            back_s = CLOCK.elapsed_s() - began_s
        assert await nodes.is_ready("ann")
        print(f"\ncut off from {name}: unready after {unready_s:.1f} s, all served by the other after {served_s:.1f} s,")
        print(f"ready {back_s:.1f} s after the end; {summary(clients)}")

    async def run() -> None:
        async with field(tmp_path, dsn, "ann", "bob") as nodes:
            await cut(nodes, "its database", "database")
            await cut(nodes, "its peer", "peer")
            await cut(nodes, "both", "database", "peer")

    asyncio.run(run())


def test_a_clock_is_an_hour_wrong(dsn: str, tmp_path: Path) -> None:
    """No lease is lost by it, and alarms set by an actor ring when that actor's node says, a few seconds later."""

    async def run() -> None:
        async with field(tmp_path, dsn, "ann") as nodes:
            await nodes.start("bob", launcher=(str(SKEWED), str(HOUR_S)))
            await nodes.start("cleo", launcher=(str(SKEWED), str(-HOUR_S)))
            urls = [nodes.url(name) for name in nodes.servers]
            async with load(nodes.http, urls) as clients:
                for number in range(12):
                    (await nodes.http.post(f"{urls[0]}/ring/counter/bell-{number}/1")).raise_for_status()
                await sleep(LEASE_S)
                for number in range(12):
                    await until(lambda number=number: _counts(nodes, urls[0], f"bell-{number}", 1))  # type: ignore[misc]
            assert {answer for client in clients for answer in client.answers} == {"POST ok", "GET ok"}
            assert not any("lost its lease" in nodes.log(name) for name in nodes.servers)
            print(f"\nclocks an hour apart: {summary(clients)}")

    asyncio.run(run())


def test_nodes_of_two_versions(dsn: str, tmp_path: Path) -> None:
    """Actors of a unit that one node lacks are served by the other one, their alarms too, and the log names both versions."""
    old = tmp_path / "old"
    shutil.copytree(FAULTY, old, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = old / "stead.manifest"
    manifest.write_text(manifest.read_text().replace('  actor "extra" {}\n', ""))

    async def run() -> None:
        async with field(tmp_path, dsn, "ann") as nodes:
            await nodes.start("bob", application=old)
            await nodes.wait_ready("bob")
            await until(lambda: _says(nodes, "ann", "only this one has the units extra"))
            assert "only that one has the units extra" in nodes.log("bob")
            ann, bob = nodes.url("ann"), nodes.url("bob")
            for number in range(24):
                assert (await nodes.http.post(f"{ann}/extra/{number}")).text == "1"
                (await nodes.http.post(f"{ann}/ring/extra/{number}/0.1")).raise_for_status()
                (await nodes.http.post(f"{bob}/counter/{number}")).raise_for_status()
            for number in range(24):
                await until(lambda number=number: _counts(nodes, ann, f"{number}", 2, unit="extra"))  # type: ignore[misc]
                assert (await nodes.http.get(f"{ann}/counter/{number}")).text == "1"

    asyncio.run(run())


def test_a_node_has_another_key(dsn: str, tmp_path: Path) -> None:
    """It joins, takes in nothing that the others could not reach, says why, and takes part once it has the right key."""

    async def run() -> None:
        async with field(tmp_path, dsn, "ann", "bob") as nodes:
            cleo = await nodes.start("cleo", key="f" * 64)
            began_s = CLOCK.elapsed_s()
            slowest_s = 0.0
            while CLOCK.elapsed_s() - began_s < LEASE_S:
                asked_s = CLOCK.elapsed_s()
                name = f"{nodes.url('ann')}/counter/new-{asked_s}"
                assert (await nodes.http.post(name)).text == "1"
                slowest_s = max(slowest_s, CLOCK.elapsed_s() - asked_s)
            assert slowest_s < PATIENCE_S / 2, "an actor was looked for where nobody can reach it"
            assert not await nodes.is_ready("cleo")
            refusal = await nodes.http.post(f"{nodes.url('cleo')}/counter/other")
            assert refusal.status_code == 503 and refusal.headers["retry-after"]
            await until(lambda: _says(nodes, "cleo", "has a channel to none of the 2 other nodes, takes no actors in"))
            assert "refused a connection" in nodes.log("ann") + nodes.log("bob")
            cleo.end(signal.SIGKILL)
            await nodes.start("cleo")
            ready_s = await nodes.wait_ready("cleo")
            assert (await nodes.http.post(f"{nodes.url('cleo')}/counter/other")).text == "1"
            print(f"\nanother key: new actors at the others take {slowest_s:.2f} s at most; ready {ready_s:.1f} s after the start")

    asyncio.run(run())


def test_the_disk_of_one_node_is_full(dsn: str, tmp_path: Path) -> None:
    """A node needs its disk for the cache of responses only: it counts on, answers what it could not keep, and keeps its lease."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")

    async def run() -> None:
        async with field(tmp_path, dsn, "ann") as nodes:
            await nodes.start("bob", data=disk / "bob")
            await nodes.wait_ready("bob")
            ann, bob = nodes.url("ann"), nodes.url("bob")
            room = os.statvfs(disk)
            (disk / "ballast").write_bytes(bytes(room.f_bavail * room.f_bsize))
            async with load(nodes.http, [ann, bob]) as clients:
                for number in range(20):
                    answer = await nodes.http.get(f"{bob}/cached?number={number}")
                    assert (answer.status_code, len(answer.content)) == (200, 200_000)
                await sleep(LEASE_S)
            assert {answer for client in clients for answer in client.answers} == {"POST ok", "GET ok"}
            assert await nodes.is_ready("bob")

    try:
        asyncio.run(run())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@asynccontextmanager
async def _without_database(nodes: Field, database: Database, how: str) -> AsyncIterator[None]:
    """Its server is stopped, or nothing passes on any node's way to it, and nothing is reset."""
    if how == "stopped":
        await asyncio.to_thread(database.stop)
        yield
        await asyncio.to_thread(database.start)
    else:
        for way in nodes.ways.values():
            way.shut()
        yield
        for way in nodes.ways.values():
            way.open()


async def _counts(nodes: Field, url: str, name: str, value: int, unit: str = "counter") -> bool:
    answer = await nodes.http.get(f"{url}/{unit}/{name}")
    assert answer.status_code != 200 or int(answer.text) <= value, f"{name} is counted twice"
    return answer.status_code == 200 and int(answer.text) == value


async def _ok(client: Client, url: str) -> bool:
    return await client.ask("POST", url) == "ok"


async def _all_ok(clients: list[Client], url: str) -> bool:
    return all(await asyncio.gather(*(_ok(client, url) for client in clients)))


async def _all_count(clients: list[Client], known: list[int]) -> bool:
    return all(client.known > before for client, before in zip(clients, known, strict=True))


async def _is_unready(nodes: Field, name: str) -> bool:
    return not await nodes.is_ready(name)


async def _says(nodes: Field, name: str, text: str) -> bool:
    return text in nodes.log(name)


async def _every_connection(database: Database) -> list[asyncpg.Connection]:
    """Take every connection of a server from whoever has it."""
    taken: list[asyncpg.Connection] = [await asyncpg.connect(database.dsn)]
    all_there_are = int(await taken[0].fetchval("SHOW max_connections"))
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL ($1)"
    began_s = CLOCK.elapsed_s()
    while len(taken) < all_there_are:  # nodes connect again as fast as they are thrown out
        assert CLOCK.elapsed_s() - began_s < LIMIT_S, f"{len(taken)} of {all_there_are} connections could be taken"
        try:
            taken.append(await asyncpg.connect(database.dsn))
        except asyncpg.TooManyConnectionsError:
            await taken[0].fetch(others, [connection.get_server_pid() for connection in taken])
    return taken
