"""A disk that is full: the write that finds no room fails, and everything else goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Serve

pytestmark = pytest.mark.process

DISK_BYTES = 12 * 1024 * 1024
ROOM_BYTES = 2 * 1024 * 1024  # for all that is written until the disk is full
LARGE = "x" * 200_000
WRITES_MAX = 2 * ROOM_BYTES // len(LARGE)  # the disk is full long before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(client: httpx.Client) -> dict[str, str]:
    """Write large boxes until one is refused. The count of each that was acknowledged."""
    acknowledged: dict[str, str] = {}
    for number in range(WRITES_MAX):
        response = client.post(f"/boxes/large-{number}", json={"text": LARGE})
        if response.status_code != 200:
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["type"] == "urn:stead:error:DurabilityLost"
            return acknowledged
        acknowledged[f"large-{number}"] = response.text
    pytest.fail("the disk is never full")


def take_all_room(disk: Path) -> Path:
    """A file that leaves no block free."""
    path, room = disk / "rest", os.statvfs(disk)
    path.write_bytes(bytes(room.f_bavail * room.f_bsize))
    return path


def test_a_full_disk_fails_writes_and_nothing_else(
    serve: Serve, refusal: Callable[[Path, Path], str], boxes: Path, small_disk: Path
) -> None:
    """503 for the writes, reads go on, writes go on once there is room, and what was acknowledged outlives a kill.

    A server that finds no room to start says so, and starts with everything once there is some.
    """
    data, ballast = small_disk / "data", small_disk / "ballast"
    with serve(boxes, data) as server, server.client() as client:
        assert server.errors.parent == small_disk  # its log finds no room either
        ballast.write_bytes(bytes(DISK_BYTES - ROOM_BYTES))
        assert client.post("/boxes/before", json={"text": "kept"}).text == "1"
        acknowledged = fill(client)
        rest = take_all_room(small_disk)
        for _ in range(3):
            assert client.post("/boxes/before", json={"text": LARGE}).status_code == 503
            assert client.get("/boxes/before").text == "kept"
            assert client.get("/boxes/never").text == ""
            assert client.get("/_stead/ready").status_code == 200
        assert server.process.poll() is None

        ballast.unlink()
        assert client.post("/boxes/before", json={"text": "kept again"}).text == "2"
        assert client.post("/boxes/after", json={"text": LARGE}).text == "1"
        server.end(signal.SIGKILL)

    rest.unlink()
    rest = take_all_room(small_disk)
    assert "Free space on its disk" in refusal(boxes, data)
    rest.unlink()
    with serve(boxes, data) as server, server.client() as client:
        assert {name: client.get(f"/boxes/{name}/count").text for name in acknowledged} == acknowledged
        assert client.get(f"/boxes/large-{len(acknowledged)}").text == ""
        assert [client.get(f"/boxes/{name}").text for name in ("before", "after")] == ["kept again", LARGE]
