"""Channels between two real processes: what an exchange costs is measured, and a frozen process is noticed and found again."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.cluster_nodes import Ear
from tests.process.measure_channels import ANSWERING, ASKING, PAYLOAD, make_peers

pytestmark = pytest.mark.process

MEASURE = Path(__file__).parent / "measure_channels.py"
PATIENCE_S = 60.0
NOTICED_S = 2.0
LATE_S = 1.0  # that a busy machine may be late


def test_a_frozen_process_is_noticed_and_found_again() -> None:
    """SIGSTOP closes no connection: the beats end, and within 2 s what is open is lost; after SIGCONT the node is dialled again."""

    async def scene() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(MEASURE), "--serve", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdin is not None and child.stdout is not None
        loop = asyncio.get_running_loop()
        try:
            address = (await child.stdout.readline()).decode().strip()
            peers, _ = await make_peers(ASKING, [(ANSWERING, address)])
            assert await peers.wait_connected(ANSWERING, PATIENCE_S)
            ear = Ear()
            peers.open(ANSWERING, b"", ear)
            child.send_signal(signal.SIGSTOP)
            begun_s = loop.time()
            assert not await ear.over
            assert loop.time() - begun_s <= NOTICED_S + LATE_S
            assert not peers.is_connected(ANSWERING)
            child.send_signal(signal.SIGCONT)
            assert await peers.wait_connected(ANSWERING, PATIENCE_S)
            again = Ear()
            peers.open(ANSWERING, PAYLOAD, again).end()
            assert await again.over and again.heard == [PAYLOAD]
            child.kill()
            assert await child.wait() != 0
            await peers.close()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_measurement_runs(loop: str) -> None:
    """It says exchanges a second and what each costs, alone and together, and what a stream carries."""

    async def scene() -> str:
        options = ("--seconds", "0.3", "--stream-mib", "16", "--loop", loop)
        process = await asyncio.create_subprocess_exec(sys.executable, str(MEASURE), *options, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()

    lines = asyncio.run(asyncio.wait_for(scene(), PATIENCE_S)).splitlines()
    assert [re.sub(r" *\d[\d,.]*\b", " n", line).strip() for line in lines] == [
        *["n at once: n exchanges/s; CPU for each: n µs here, n µs there"] * 2,
        "a stream: n MB/s; CPU for each MB: n µs here, n µs there",
    ]
