"""`kill -9` during puts and uploads in parts: what was acknowledged is there, nothing is half, nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from stead.clock import SystemClock, sleep
from stead.ids import Chance, named_id
from stead.node import Node, Settings, load_application
from stead.storage.entries import USER, range_end
from stead.storage.sqlite import SqliteEngine
from tests.process.conftest import LIMIT_S, Serve, Server
from tests.process.test_s3 import MIB, client_of, create_credential, read, resolving_names

pytestmark = pytest.mark.process

APP = Path(__file__).with_name("buckets")
KILLS = 5
WRITERS = 3
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with resolving_names():
        yield


class LateClock(SystemClock):
    """The machine's clock, some time ahead."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms


class Writer(threading.Thread):
    """Writes objects one after the other, every second one in parts, until the server is gone."""

    def __init__(self, s3: Any, prefix: str) -> None:
        super().__init__()
        self._s3 = s3
        self._prefix = prefix
        self.begun: dict[str, str] = {}  # keys with the digest that their body has, if they are there
        self.acknowledged: set[str] = set()

    def run(self) -> None:
        try:
            for number in range(1000):
                self._write(f"{self._prefix}/{number}", number)
        except (BotoCoreError, ClientError):
            return

    def _write(self, key: str, number: int) -> None:
        body = key.encode() * (1 + (100_000 if number % 2 else 5 * MIB) // len(key))
        self.begun[key] = hashlib.sha256(body).hexdigest()
        if number % 2:
            self._s3.put_object(Bucket="files", Key=key, Body=body)
        else:
            name = {"Bucket": "files", "Key": key}
            upload = self._s3.create_multipart_upload(**name)["UploadId"]
            pieces = [body[: 5 * MIB], body[5 * MIB :]]
            parts = [
                {"PartNumber": part, "ETag": self._s3.upload_part(**name, UploadId=upload, PartNumber=part, Body=piece)["ETag"]}
                for part, piece in enumerate(pieces, 1)
            ]
            self._s3.complete_multipart_upload(**name, UploadId=upload, MultipartUpload={"Parts": parts})
        self.acknowledged.add(key)


def test_kills_leave_whole_objects_and_no_orphans(serve: Serve, tmp_path: Path) -> None:
    """Over and over on one data directory; then two days later, when everything that nobody has is collected."""
    data, chance = tmp_path / "data", Chance(7)
    begun: dict[str, str] = {}
    acknowledged: set[str] = set()
    for life in range(KILLS):
        with serve(APP, data) as server:
            check(server, begun, acknowledged)
            writers = [Writer(client_of(server, create_credential(server)), f"{life}-{number}") for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            writers[0].join(0.1 + chance.fraction())  # it does not end: this is how long it may write
            server.process.kill()
            for writer in writers:
                writer.join(LIMIT_S)
                begun |= writer.begun
                acknowledged |= writer.acknowledged
    assert len(acknowledged) > KILLS and len(begun) > len(acknowledged)
    with serve(APP, data) as server:
        check(server, begun, acknowledged)
    written = blobs_in(data)
    asyncio.run(collect(data, 10 * DAY_MS, lambda used, garbage: blobs_in(data) <= used | garbage))
    asyncio.run(collect(data, 10 * DAY_MS + HOUR_MS, lambda used, garbage: blobs_in(data) == used))
    assert blobs_in(data) < written
    with serve(APP, data) as server:
        check(server, begun, acknowledged)


def check(server: Server, begun: dict[str, str], acknowledged: set[str]) -> None:
    """Every key is whole, and those that were acknowledged are there."""
    s3 = client_of(server, create_credential(server))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="files")
    there = {line["Key"] for page in pages for line in page.get("Contents", [])}
    assert acknowledged <= there <= set(begun)
    for key in there:
        assert hashlib.sha256(read(s3, key)).hexdigest() == begun[key], key


def blobs_in(data: Path) -> set[str]:
    return {str(path.relative_to(data / "blobs" / "files")) for path in (data / "blobs" / "files").rglob("*") if path.is_file()}


async def collect(data: Path, ahead_ms: int, is_done: Callable[[set[str], set[str]], bool]) -> None:
    """Run the application `ahead_ms` from now, until `is_done` of the blobs that are used and those that are garbage."""
    clock = LateClock(ahead_ms)
    engine = SqliteEngine.open(data, clock)
    node = Node(load_application(APP), engine, Settings(data=data), clock, Chance())
    try:
        await node.start()
        async with asyncio.timeout(LIMIT_S):
            while not is_done(await rows(engine, "b:"), await rows(engine, "g:")):
                await sleep(0.01)
    finally:
        await node.close()
        await engine.close()


async def rows(engine: SqliteEngine, prefix: str) -> set[str]:
    """The blobs in the index under `b:`, which are used, or `g:`, which are garbage."""
    start = USER + prefix.encode()
    found = await engine.scan(named_id("files", "index"), start, range_end(start))
    return {key.decode().rpartition(":")[2] for key, _ in found}
