"""Data directories that already hold many or large actors, written through the storage engine as their turns would have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from stead import codec
from stead.clock import SystemClock
from stead.ids import ActorId, named_id
from stead.storage.contract import BATCH_COMMITS_MAX, Commit
from stead.storage.entries import USER
from stead.storage.sqlite import SqliteEngine

UNIT = "kv-counter"  # of examples/counter
FILLER_BYTES = 64 * 1024  # of one value: an actor is made large by many of them, as applications do
BATCH_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class Seed:
    """`count` counters named `<prefix>0`, `<prefix>1` and so on, each at 1 and filled up to about `size_bytes`."""

    prefix: str
    count: int
    size_bytes: int = 0


def plant(data: Path, seed: Seed) -> None:
    """Write the actors. A million small ones take about twenty seconds."""
    uvloop.run(_plant(data, seed))


async def _plant(data: Path, seed: Seed) -> None:
    clock = SystemClock()
    engine = SqliteEngine.open(data, clock)
    writes = entries_of(seed.size_bytes)
    size_bytes = sum(len(key) + len(value or b"") for key, value in writes.items())
    step = max(1, min(BATCH_COMMITS_MAX, BATCH_BYTES_MAX // size_bytes))
    try:
        for start in range(0, seed.count, step):
            names = [f"{seed.prefix}{number}" for number in range(start, min(start + step, seed.count))]
            await _commit(engine, [named_id(UNIT, name) for name in names], writes, size_bytes, clock.now_ms())
    finally:
        await engine.close()


async def _commit(
    engine: SqliteEngine, actors: Sequence[ActorId], writes: dict[bytes, bytes | None], size_bytes: int, now_ms: int
) -> None:
    epochs = [(await engine.claim(actor)).epoch for actor in actors]
    batch = [Commit(actor, epoch, 1, writes, {}, size_bytes, now_ms) for actor, epoch in zip(actors, epochs, strict=True)]
    assert all(await engine.commit(batch)), "nobody else owns a directory that is being seeded"
    for actor, epoch in zip(actors, epochs, strict=True):
        await engine.release(actor, epoch)


def entries_of(size_bytes: int) -> dict[bytes, bytes | None]:
    """A counter at 1, with fillers that make it about this large."""
    writes: dict[bytes, bytes | None] = {USER + b"value": codec.encode(1)}
    for number, start in enumerate(range(0, size_bytes, FILLER_BYTES)):
        writes[USER + b"filler-%06d" % number] = codec.encode(bytes(min(FILLER_BYTES, size_bytes - start)))
    return writes
