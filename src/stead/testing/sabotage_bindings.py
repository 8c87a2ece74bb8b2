"""Planted bugs of the data services, by the promise they break; see `sabotage.py`. Each service has a property of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from stead.bindings.bucket import BucketIndex, BucketObject, Cause
from stead.bindings.bucket.blobs import new_blob
from stead.bindings.bucket.objects import Segment
from stead.bindings.bucket.values import chunks_of
from stead.bindings.bucket.writing import ETAG, Writer, Written
from stead.bindings.queue import QueueShard
from stead.bindings.queue.depot import Depot
from stead.testing.planting import Plant, planting

BINDING_SABOTAGES: dict[str, Plant] = {}
_plant = planting(BINDING_SABOTAGES)


# -- P8: queues ------------------------------------------------------------------------------------------------------------------


@_plant("P8", QueueShard, "_bury")
def poison_dropped(right: Any) -> Any:
    """A message that failed too often is deleted."""

    async def bury(self: QueueShard, parcel: Any) -> None:  # noqa: RUF029 - stands for one
        return

    return bury


@_plant("P8", QueueShard, "_take")
def messages_deleted_when_taken(right: Any) -> Any:
    """A message leaves the queue when an observer gets it."""

    async def take(self: QueueShard) -> Any:
        batch, wait_s = await right(self)
        await self._cut({key: parcel.numbers for key, parcel in batch.items()})
        return batch, wait_s

    return take


@_plant("P8", Depot, "_cut")
def parcels_deleted_with_a_part(right: Any) -> Any:
    """What was sent together is deleted together, whoever still waits for the rest."""

    async def cut(self: Depot, numbers: Any) -> Any:
        found = await right(self, numbers)
        await self.storage.delete_many(list(numbers))
        return found

    return cut


@_plant("P8", QueueShard, "_watch")
def nobody_looks_after_a_crash(right: Any) -> Any:
    """No alarm is set for messages that wait."""

    async def watch(self: QueueShard, ready_ms: int) -> None:  # noqa: RUF029 - stands for one
        return

    return watch


# -- P5 and P8: buckets ----------------------------------------------------------------------------------------------------------


@_plant("P5", Writer, "written")
def bodies_written_after_their_entries(right: Any) -> Any:
    """The entry commits first, and the blob is written then."""

    @asynccontextmanager
    async def written(self: Writer, random: str, chunks: AsyncIterable[bytes], expected: Any) -> AsyncIterator[Written]:
        body = b"".join([chunk async for chunk in chunks])
        blob = new_blob(self._env.now(), random)
        yield Written([Segment(blob, len(body))], {ETAG: hashlib.md5(body, usedforsecurity=False).hexdigest()})
        await self.blobs.write(self.full(blob), chunks_of(body))

    return written


@_plant("P5", BucketIndex, "_use")
def bodies_in_use_not_noted(right: Any) -> Any:
    """The sweep takes bodies that objects have for left behind."""

    async def use(self: BucketIndex, blobs: Iterable[str]) -> None:
        await self._keep_sweeping()

    return use


@_plant("P5", BucketIndex, "_drop")
def replaced_bodies_stay(right: Any) -> Any:
    """Blobs that nothing uses any more are not removed."""

    async def drop(self: BucketIndex, segments: Sequence[Segment]) -> None:  # noqa: RUF029 - stands for one
        return

    return drop


@_plant("P5", BucketIndex, "_keep_sweeping")
def nobody_sweeps(right: Any) -> Any:
    """What was written and never committed is not looked for."""

    async def keep_sweeping(self: BucketIndex) -> None:  # noqa: RUF029 - stands for one
        return

    return keep_sweeping


@_plant("P8", BucketIndex, "_announce")
def events_sent_beside_the_turn(right: Any) -> Any:
    """Events are sent on their own, not with the commit of what they tell of."""

    async def announce(self: BucketIndex, about: BucketObject, cause: Cause) -> None:  # noqa: RUF029 - stands for one
        self.ctx.spawn(right(self, about, cause))

    return announce
