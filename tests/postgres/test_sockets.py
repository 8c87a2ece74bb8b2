"""Clients of one real node, whose actor's owner is another one that is killed."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect

from stead.cli import app
from stead.clock import SystemClock
from tests.process.conftest import LIMIT_S, Server, serving

pytestmark = pytest.mark.process

ROOMS = Path(__file__).parents[1] / "process" / "rooms"
CLIENTS = 200
LEASE_S = 6.0
TAKEOVER_S = 2 * LEASE_S  # the lease, a quarter of one until the others know, and what a loaded machine takes besides
POLL_S = 0.2
KEY = "0123456789abcdef" * 4


def seen(server: Server) -> dict[str, object]:
    answer: dict[str, object] = server.ask("GET", "/parties/room/r").raise_for_status().json()
    return answer


async def give(server: Server, to: str) -> None:
    """Let the room be at the node of that name."""
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while True:
        await asyncio.to_thread(seen, server)
        command = ["actors", "move", "room/r", to, "--data", str(server.data)]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        if result.exit_code == 0:
            return
        assert SystemClock().elapsed_s() < until_s, result.output


async def echoed(client: ClientConnection, text: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        await client.send(text)
        while await client.recv() != text:
            pass


async def outlive(ann: Server, bob: Server) -> float:
    """Returns how long it took from the owner's death to a broadcast that all clients of the other node heard."""
    clock = SystemClock()
    await give(ann, "bob")
    async with AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{ann.port}/parties/room/r"
        clients = [await stack.enter_async_context(connect(f"{url}?_pk={number}", ping_interval=None)) for number in range(CLIENTS)]
        await asyncio.gather(*(echoed(client, "before") for client in clients))
        began_s = clock.elapsed_s()
        assert bob.end(signal.SIGKILL) == -signal.SIGKILL
        async with asyncio.TaskGroup() as tasks:
            hearing = [tasks.create_task(client.recv()) for client in clients]
            while not all(task.done() for task in hearing):
                assert clock.elapsed_s() - began_s < TAKEOVER_S, "nobody has taken the room over"
                await clients[0].send("all are here")
                await asyncio.wait(hearing, timeout=POLL_S)
        took_s = clock.elapsed_s() - began_s
        assert {task.result() for task in hearing} == {"are here"}
        await asyncio.gather(*(echoed(client, "after") for client in clients))
        assert await asyncio.to_thread(seen, ann) == {"ends": [], "open": CLIENTS}
        assert all(client.close_code is None for client in clients)
    return took_s


def test_clients_outlive_the_owner_of_their_room(dsn: str, tmp_path: Path) -> None:
    """200 clients of one node stay connected when the other is killed, which had their room, and are heard after the takeover."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    flags = ["--engine", dsn, "--cluster-key-file", str(key), "--lease-s", str(LEASE_S)]
    with (
        serving(ROOMS, tmp_path / "ann", *flags, "--node-name", "ann") as ann,
        serving(ROOMS, tmp_path / "bob", *flags, "--node-name", "bob") as bob,
    ):
        print(f"taken over after {asyncio.run(outlive(ann, bob)):.2f} s")
