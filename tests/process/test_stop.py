"""The end of a server under load."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Serve, Server

pytestmark = pytest.mark.process

CLIENTS = 8
REQUESTS_BEFORE = 20  # of each client before the signal


def write_until_the_end(server: Server, number: int, is_under_way: Event) -> int:
    """How many requests of this client, at a box of its own, were answered."""
    answered = 0
    with server.client() as client:
        try:
            while True:
                response = client.post(f"/boxes/{number}", json={"text": "a"})
                if response.status_code != 200:
                    assert response.status_code == 503
                    return answered
                answered += 1
                assert response.text == str(answered)
                if answered == REQUESTS_BEFORE:
                    is_under_way.set()
        except httpx.TransportError:
            return answered


def test_a_stop_under_load_loses_nothing(serve: Serve, boxes: Path, tmp_path: Path) -> None:
    """After SIGTERM every request that ran is answered, the server ends with 0, and each counter is what its client was told."""
    under_way = [Event() for _ in range(CLIENTS)]
    with serve(boxes, tmp_path / "data") as server, ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(write_until_the_end, server, number, event) for number, event in enumerate(under_way)]
        assert all(event.wait(60) for event in under_way)
        assert server.end(signal.SIGTERM) == 0
        answered = [client.result() for client in clients]
        assert server.errors.read_text() == ""
    with serve(boxes, tmp_path / "data") as server, server.client() as client:
        assert [int(client.get(f"/boxes/{number}/count").text) for number in range(CLIENTS)] == answered
