"""Where bodies are: one contract for a directory and for the memory of the test kit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stead import EngineFailed, Invalid
from stead.bindings import Blobs
from stead.ids import Chance
from stead.node.blobs import ObjectBlobs
from stead.testing.blobs import MemoryBlobs

MAKERS: dict[str, Callable[[Path], Blobs]] = {
    "directory": lambda path: ObjectBlobs(str(path / "blobs")),
    "memory": lambda path: MemoryBlobs(Chance(1)),
}
LARGE = 12 * 1024 * 1024 + 5  # more than two chunks on their way to a cloud


async def pieces(size: int, error: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, size, 1_000_000):
        yield bytes([start // 1_000_000 % 251]) * min(1_000_000, size - start)
    if error is not None:
        raise error


async def read(blobs: Blobs, name: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(name, start, end)])


async def names_in(blobs: Blobs, folder: str) -> list[str]:
    return sorted([name async for names in blobs.names(folder) for name in names])


async def whole(size: int) -> bytes:
    return b"".join([piece async for piece in pieces(size)])


async def keep_what_was_written(blobs: Blobs) -> None:
    for size in (1, 1000, LARGE):
        await blobs.write(f"bucket/20260101/{size}", pieces(size))
        data = await whole(size)
        assert await read(blobs, f"bucket/20260101/{size}", 0, size) == data
        assert await read(blobs, f"bucket/20260101/{size}", size // 2, size) == data[size // 2 :]
    assert await read(blobs, f"bucket/20260101/{LARGE}", 6_000_000, 6_000_007) == (await whole(LARGE))[6_000_000:6_000_007]


async def list_and_delete(blobs: Blobs) -> None:
    assert await blobs.folders("bucket") == [] and await names_in(blobs, "bucket/20260101") == []
    for name in ("bucket/20260101/a", "bucket/20260101/b", "bucket/20260102/c", "bucket-2/20260103/d"):
        await blobs.write(name, pieces(3))
    assert await blobs.folders("bucket") == ["20260101", "20260102"]
    assert await names_in(blobs, "bucket/20260101") == ["a", "b"]
    await blobs.delete(["bucket/20260101/a", "bucket/20260101/none", "bucket/20260101/b"])
    await blobs.delete(["bucket/20260101/a"])
    await blobs.delete([])
    await blobs.tidy("bucket/20260101")
    assert await names_in(blobs, "bucket/20260101") == []
    with pytest.raises(EngineFailed):
        await read(blobs, "bucket/20260101/a", 0, 1)


async def leave_nothing_of_what_failed(blobs: Blobs) -> None:
    for size in (3, LARGE):
        for error in (RuntimeError("half-way"), OSError("the client's own"), Invalid("bad digest")):
            with pytest.raises(type(error)) as raised:
                await blobs.write("bucket/20260101/x", pieces(size, error))
            assert raised.value is error
    assert await names_in(blobs, "bucket/20260101") == []


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("holds", [keep_what_was_written, list_and_delete, leave_nothing_of_what_failed])
def test_blobs(make: Callable[[Path], Blobs], holds: Callable[[Blobs], Awaitable[None]], tmp_path: Path) -> None:
    """Bytes come back, in ranges too; lists are whole; what failed is absent and raises what the source raised."""

    async def scenario() -> None:
        await holds(make(tmp_path))

    asyncio.run(scenario())


def test_a_killed_write_is_tidied_away(tmp_path: Path) -> None:
    """What a process leaves that is killed in the middle of a write is no blob, and goes with `tidy`."""

    async def scenario() -> None:
        blobs = ObjectBlobs(str(tmp_path))
        arrived = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"x" * LARGE
            arrived.set()
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(blobs.write("bucket/20260101/x", endless()))
            await arrived.wait()
            (partial,) = (tmp_path / "bucket/20260101").iterdir()
            content = partial.read_bytes()
            task.cancel()
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)  # as if nobody had been there to clean up
        assert await names_in(blobs, "bucket/20260101") == []
        await blobs.tidy("bucket/20260101")
        await blobs.tidy("bucket/20260102")
        assert not partial.exists()

    asyncio.run(scenario())


@pytest.mark.parametrize("place", ["ftp://somewhere", "s3://", "/proc/none"])
def test_a_place_that_cannot_be_is_refused_at_the_start(place: str) -> None:
    """With its name."""
    with pytest.raises(Invalid, match=place):
        ObjectBlobs(place)
