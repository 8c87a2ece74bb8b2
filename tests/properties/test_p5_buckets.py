"""P5 for buckets: an acknowledged object survives, whole; and no blob stays that nobody has.

Together with it P8 for their events: what happened to an object is told, and what did not happen is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, ClassVar

import pytest

from stead import Actor, EngineFailed, Message, Observer, SteadError
from stead.bindings import (
    Binding,
    Bucket,
    BucketIndex,
    ObjectBody,
    Queue,
    QueueSettings,
    Watch,
    index_class,
    observer_service,
    queue_class,
)
from stead.bindings.bucket.writing import Writer
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import BINDING_SABOTAGES, TestApp, check, find, sabotaged

STEPS_MAX = 120  # of the loop, before a process dies: more than an operation takes
SETTLED_S = 120.0  # of virtual time, for the events to arrive


class Worker(Actor):
    """Uses the bucket inside a turn; its process dies in the middle now and then."""

    async def put(self, key: str, text: str) -> None:
        await self.env.FILES.put(key, letters(text))

    async def put_in_parts(self, key: str, text: str) -> None:
        upload = await self.env.FILES.create_multipart_upload(key)
        parts = [await upload.upload_part(number, letter) for number, letter in enumerate(text, 1)]
        await upload.complete(parts)

    async def delete(self, key: str, text: str) -> None:
        await self.env.FILES.delete(key)


class Ear(Observer):
    """Hears of everything, and keeps each message once."""

    heard: ClassVar[dict[str, tuple[str, str, int]]] = {}

    async def process(self, message: Message) -> None:
        event = message.body
        self.heard[message.id] = event["action"], event["object"]["key"], event["object"]["size"]


def with_bucket() -> TestApp:
    index = index_class([Watch("ear")])
    index.part_bytes_min = 1
    settings = QueueSettings(name="ear", consumer="ear.observer", max_batch_timeout_s=0.0)
    ear = Binding(queue_class(settings), Queue, {"ear.observer": observer_service(Ear, "files")})
    return TestApp.of(actors={"worker": Worker}, bindings={"files": Binding(index, Bucket), "ear": ear})


async def letters(text: str) -> AsyncIterator[bytes]:
    for letter in text:
        yield letter.encode()


async def keep_objects(seed: int) -> None:
    """Operations whose processes die, against what a key may have; then three days, after which each blob has its use."""
    chance = Chance(seed)
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        possible: dict[str, set[str | None]] = {}
        for step in range(25):
            key, text = f"k{chance.below(4)}", f"{step}," * (1 + chance.below(3))
            worker = app.env.WORKER.get("w")
            value, work = [(text, worker.put), (text, worker.put_in_parts), (None, worker.delete)][chance.below(3)]
            before = possible.setdefault(key, {None})
            match chance.below(4):
                case 0:
                    possible[key] = {value} if await interrupted(app, chance, work(key, text)) else {*before, value}
                case 1:
                    assert await text_of(files, key) in before
                case _:
                    await work(key, text)
                    possible[key] = {value}
            now = await text_of(files, key)
            assert now in possible[key], (now, possible[key])
            possible[key] = {now}
        for upload in await files.list_multipart_uploads():
            await files.resume_multipart_upload(upload.key, upload.upload_id).abort()
        await app.clock.advance(days=3)
        assert set(app.blobs.stored) == await in_use(files)


async def tell_of_puts(seed: int) -> None:
    """Puts whose processes die: in the end the observer has heard of those that happened, once each."""
    Ear.heard = {}
    chance = Chance(seed)
    async with with_bucket() as app:
        for number in range(6):
            put = app.env.WORKER.get("w").put(str(number), "x")
            if chance.below(2):
                await interrupted(app, chance, put)
            else:
                await put
        await sleep(SETTLED_S)
        there = [("PutObject", found.key, 1) for found in (await app.env.FILES.list()).objects]
        assert sorted(Ear.heard.values()) == there


async def interrupted(app: TestApp, chance: Chance, work: Coroutine[Any, Any, None]) -> bool:
    """Crash some steps after `work` began, and say whether it came to its end."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(succeeds(work))
        for _ in range(chance.below(STEPS_MAX)):
            await sleep(0)
        await app.crash()
    return task.result()


async def succeeds(work: Coroutine[Any, Any, None]) -> bool:
    try:
        await work
    except SteadError:
        return False
    return True


async def text_of(files: Bucket, key: str) -> str | None:
    found = await files.get(key)
    if not isinstance(found, ObjectBody):
        return None
    try:
        return await found.text()
    except EngineFailed as exc:
        raise AssertionError(f"the body of {key} is not there") from exc


async def in_use(files: Bucket) -> set[str]:
    index: Any = files._index
    located = [await index.locate(found.key) for found in (await files.list()).objects]
    return {f"files/{segment.blob}" for _, segments in located for segment in segments}


def test_objects_are_whole_and_blobs_have_their_use() -> None:
    """Over many seeds."""
    check(keep_objects, seeds=60)


def test_events_tell_what_happened() -> None:
    """Over many seeds."""
    check(tell_of_puts, seeds=60)


@pytest.mark.parametrize("name", [name for name, plant in BINDING_SABOTAGES.items() if plant.owner in {BucketIndex, Writer}])
def test_planted_bugs_are_found(name: str) -> None:
    """Each bug of buckets makes its scenario fail."""
    with sabotaged(BINDING_SABOTAGES[name]):
        find(tell_of_puts if BINDING_SABOTAGES[name].promise == "P8" else keep_objects)
