"""Buckets: objects that are whole or absent, whatever dies; and blobs that nobody keeps do not stay."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from stead import Actor, Invalid
from stead.bindings import Binding, Bucket, BucketIndex, BucketObject, ByteRange, Conditions, HttpMetadata, ObjectBody
from stead.bindings.bucket import BadDigest, InvalidPart, InvalidPartOrder, NoSuchUpload, Part, PartTooSmall, RangeNotSatisfiable
from stead.bindings.bucket.objects import Segment
from stead.clock import sleep
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class SmallParts(BucketIndex):
    """A bucket whose parts need not be large, so that many runs fit in a second."""

    part_bytes_min = 1


class Worker(Actor):
    """Uses the bucket from inside a turn, as another unit would."""

    async def put(self, key: str, text: str) -> None:
        await self.env.FILES.put(key, chunks(*text))

    async def read(self, key: str) -> str:
        return await body(await self.env.FILES.get(key))


def with_bucket(index: type[BucketIndex] = BucketIndex) -> TestApp:
    return TestApp.of(actors={"worker": Worker}, bindings={"files": Binding(index, Bucket)})


async def body(found: BucketObject | None) -> str:
    assert isinstance(found, ObjectBody)
    return await found.text()


async def chunks(*texts: str) -> AsyncIterator[bytes]:
    for text in texts:
        yield text.encode()


async def test_objects_come_back_as_they_were_put() -> None:
    """Text, bytes and streams; with metadata, checksums, version, size and time; also after a crash."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        made = await files.put(
            "a/b.txt",
            "grüße",
            http_metadata=HttpMetadata(content_type="text/plain"),
            custom_metadata={"by": "ann"},
            sha256=hashlib.sha256("grüße".encode()).hexdigest(),
        )
        assert made is not None and made.size == 7 and made.etag == hashlib.md5("grüße".encode()).hexdigest()
        assert made.http_etag == f'"{made.etag}"' and set(made.checksums) == {"md5", "sha256"}
        assert made.uploaded == app.env.now()
        await files.put("stream", chunks("x" * 100_000, "y" * 100_000, "z"))
        await files.put("empty", b"")
        await app.crash()
        assert await files.head("a/b.txt") == made
        found = await files.get("a/b.txt")
        assert isinstance(found, ObjectBody) and await found.text() == "grüße" and found.custom_metadata == {"by": "ann"}
        assert await body(await files.get("stream")) == "x" * 100_000 + "y" * 100_000 + "z"
        assert await body(await files.get("empty")) == ""
        await files.put("json", '{"a": [1]}')
        stored = await files.get("json")
        assert isinstance(stored, ObjectBody) and await stored.json() == {"a": [1]}
        assert await files.get("none") is None and await files.head("none") is None
        await files.delete("json")
        await files.delete(["json", "stream", "none"])
        assert await files.head("stream") is None
        assert [found.key for found in (await files.list()).objects] == ["a/b.txt", "empty"]


async def test_ranges() -> None:
    """An offset with a length or without, a suffix; what is past the end is cut, what is wholly past it refused."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        await files.put("k", "0123456789")
        for asked, text, given in [
            (ByteRange(2, 3), "234", ByteRange(2, 3)),
            (ByteRange(7), "789", ByteRange(7, 3)),
            (ByteRange(suffix=4), "6789", ByteRange(6, 4)),
            (ByteRange(suffix=40), "0123456789", ByteRange(0, 10)),
            (ByteRange(8, 100), "89", ByteRange(8, 2)),
        ]:
            found = await files.get("k", range=asked)
            assert found is not None and found.range == given and found.size == 10
            assert await body(found) == text
        for wrong in (ByteRange(10), ByteRange(10, 1), ByteRange(suffix=0)):
            with pytest.raises(RangeNotSatisfiable):
                await files.get("k", range=wrong)
        for odd in (ByteRange(-1), ByteRange(0, 0), ByteRange(1, suffix=2)):
            with pytest.raises(Invalid):
                await files.get("k", range=odd)


async def test_conditions() -> None:
    """A put happens, and a get has a body, only if what it counts on holds; a refused put changes nothing and leaves nothing."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        create = Conditions(etag_does_not_match="*")
        made = await files.put("k", "1", only_if=create)
        assert made is not None
        assert await files.put("k", "2", only_if=create) is None
        assert await files.put("k", "2", only_if=Conditions(etag_matches="nonsense")) is None
        assert await files.put("other", "2", only_if=Conditions(etag_matches="*")) is None
        assert await body(await files.get("k")) == "1"
        again = await files.put("k", "3", only_if=Conditions(etag_matches=[made.http_etag, "x"]))
        assert again is not None
        before, after = app.env.now() - timedelta(hours=1), app.env.now() + timedelta(hours=1)
        for conditions, holds in [
            (Conditions(etag_matches=again.etag), True),
            (Conditions(etag_does_not_match=again.etag), False),
            (Conditions(uploaded_before=before), False),
            (Conditions(uploaded_before=after), True),
            (Conditions(uploaded_after=before), True),
            (Conditions(uploaded_after=after), False),
            (Conditions(etag_matches=again.etag, uploaded_before=before), True),
            (Conditions(etag_does_not_match=made.etag, uploaded_after=after), True),
        ]:
            found = await files.get("k", only_if=conditions)
            assert found is not None and isinstance(found, ObjectBody) == holds, conditions
        await sleep(700)
        assert len(app.blobs.stored) == 1


async def test_lists_come_in_pages_and_by_delimiter() -> None:
    """In the order of the keys' bytes, whole, whatever the page; everything behind a delimiter is one line."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        keys = [f"{folder}/{number}" for folder in ("a", "b", "b/c", "é", "\U0010ffff", "\ud7ff") for number in range(40)] + [
            "b",
            "z",
        ]
        for key in keys:
            await files.put(key, key)
        for prefix in ("", "b", "b/", "none"):
            for limit in (1, 7, 1000):
                assert await pages(files, prefix, "", limit) == sorted((k for k in keys if k.startswith(prefix)), key=str.encode)
                assert await pages(files, prefix, "/", limit) == delimited(keys, prefix, "/")
        assert [found.key for found in (await files.list(start_after="é/5", limit=2)).objects] == ["é/6", "é/7"]
        with pytest.raises(Invalid):
            await files.list(cursor="no cursor")
        with pytest.raises(Invalid):
            await files.list(limit=1001)


class Counting:
    """Storage that counts the rows it has listed."""

    rows = 0

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def list(self, *arguments: Any, **named: Any) -> Any:
        found = await self._storage.list(*arguments, **named)
        Counting.rows += len(found)
        return found


class CountedIndex(BucketIndex):
    async def on_start(self) -> None:
        self.storage = cast(Any, Counting(self.storage))


async def test_a_folder_is_not_read_to_be_skipped() -> None:
    """A list by delimiter reads a few rows of each folder, however many it has."""
    async with with_bucket(CountedIndex) as app:
        index: Any = app.env.FILES._index
        for folder in range(5):
            for number in range(400):
                await index.commit(BucketObject(key=f"{folder}/{number}", version="v", size=0, etag=""), [])
        Counting.rows = 0
        page = await app.env.FILES.list(delimiter="/")
        assert page.delimited_prefixes == [f"{folder}/" for folder in range(5)]
        assert Counting.rows < 200


async def pages(files: Bucket, prefix: str, delimiter: str, limit: int) -> list[str]:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await files.list(prefix=prefix, delimiter=delimiter, limit=limit, cursor=cursor)
        lines = [found.key for found in page.objects] + page.delimited_prefixes
        assert len(lines) <= limit and page.truncated == (page.cursor is not None)
        seen += sorted(lines, key=str.encode)
        cursor = page.cursor
        if cursor is None:
            return seen


def delimited(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    lines = set()
    for key in keys:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix))
            lines.add(key if cut < 0 else key[: cut + len(delimiter)])
    return sorted(lines, key=str.encode)


async def test_bad_input_is_refused_and_nothing_is_stored() -> None:
    """Keys, metadata, checksums and values; the body of a refused put is gone."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        wrong_keys: list[Any] = ["", "x" * 1025, "ü" * 513, "a\0b", "\ud800", 5, None]
        for key in wrong_keys:
            with pytest.raises(Invalid):
                await files.put(key, "v")
            with pytest.raises(Invalid):
                await files.get(key)
        for good in ("../../etc/passwd", "..", "/", "//", "a\nb", "x" * 1024):
            await files.put(good, good)
            assert await body(await files.get(good)) == good
        await files.delete(["../../etc/passwd", "..", "/", "//", "a\nb", "x" * 1024])
        with pytest.raises(BadDigest):
            await files.put("k", "v", sha256="00")
        with pytest.raises(BadDigest):
            await files.put("k", chunks("v", "w"), md5=hashlib.md5(b"v").digest())
        with pytest.raises(Invalid, match="no checksum"):
            await files.put("k", "v", sha3="00")
        with pytest.raises(Invalid, match="metadata"):
            await files.put("k", "v", custom_metadata={"a": "x" * 9000})
        wrong_value: Any = 5
        with pytest.raises(Invalid):
            await files.put("k", wrong_value)
        with pytest.raises(RuntimeError, match="half-way"):
            await files.put("k", broken())
        assert (await files.list()).objects == []
        await sleep(700)
        assert app.blobs.stored == {}


async def broken() -> AsyncIterator[bytes]:
    yield b"x"
    raise RuntimeError("half-way")


async def test_uploads_in_parts() -> None:
    """Parts in any order, replaced or left out, become one object; a repeated completion has the same answer."""
    async with with_bucket(SmallParts) as app:
        files: Bucket = app.env.FILES
        upload = await files.create_multipart_upload("k", custom_metadata={"by": "ann"})
        again = files.resume_multipart_upload("k", upload.upload_id)
        two = await again.upload_part(2, "two")
        await upload.upload_part(1, "eins")
        one = await upload.upload_part(1, "one")
        await upload.upload_part(7, "left out")
        assert [part.part_number for part in await upload.list_parts()] == [1, 2, 7]
        assert [found.upload_id for found in await files.list_multipart_uploads()] == [upload.upload_id]
        assert await files.head("k") is None
        await app.crash()
        with pytest.raises(InvalidPartOrder):
            await upload.complete([two, one])
        with pytest.raises(InvalidPart):
            await upload.complete([one, Part(part_number=2, etag=one.etag)])
        with pytest.raises(InvalidPart):
            await upload.complete([])
        made = await upload.complete([one, two])
        assert made is not None and made.size == 6 and made.custom_metadata == {"by": "ann"} and made.etag.endswith("-2")
        assert await upload.complete([one, two]) == made
        assert await body(await files.get("k")) == "onetwo"
        assert await body(await files.get("k", range=ByteRange(2, 3))) == "etw"
        with pytest.raises(NoSuchUpload):
            await upload.upload_part(3, "late")
        with pytest.raises(NoSuchUpload):
            await upload.abort()
        other = await files.create_multipart_upload("other")
        await other.upload_part(1, "x")
        await other.abort()
        with pytest.raises(Invalid):
            await other.upload_part(0, "x")
        assert await files.list_multipart_uploads() == []
        await sleep(700)
        assert len(app.blobs.stored) == 2


async def test_parts_but_the_last_are_large() -> None:
    """5 MiB, as everywhere."""
    async with with_bucket() as app:
        upload = await app.env.FILES.create_multipart_upload("k")
        parts = [await upload.upload_part(number, "x") for number in (1, 2)]
        with pytest.raises(PartTooSmall):
            await upload.complete(parts)
        assert (await upload.complete(parts[1:])).size == 1


async def test_a_reader_has_what_it_began_to_read() -> None:
    """For ten minutes a body that was replaced can be read; then it is gone."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        await files.put("k", "old")
        found = await files.get("k")
        await files.put("k", "new")
        await sleep(590)
        assert await body(found) == "old"
        assert len(app.blobs.stored) == 2
        await app.crash()
        await sleep(20)
        assert len(app.blobs.stored) == 1
        assert await body(await files.get("k")) == "new"


async def test_units_use_it_inside_turns() -> None:
    """A put in a turn is durable when it returns."""
    async with with_bucket() as app:
        worker = app.env.WORKER.get("w")
        await worker.put("a", "text")
        assert await worker.read("a") == "text"


async def test_uploads_nobody_completes_end() -> None:
    """After a week, with their parts."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        upload = await files.create_multipart_upload("k")
        await upload.upload_part(1, "x")
        await app.clock.advance(days=6)
        assert len(app.blobs.stored) == 1
        await app.clock.advance(days=3)
        assert app.blobs.stored == {} and await files.list_multipart_uploads() == []


async def test_blobs_nobody_committed_are_found() -> None:
    """What a write left behind, whose process died before it committed, is removed when its day and the next are over."""
    async with with_bucket() as app:
        files: Bucket = app.env.FILES
        await files.put("k", "kept")
        day = f"{app.env.now():%Y%m%d}"
        await app.blobs.write(f"files/{day}/left-behind", chunks("x"))
        await app.clock.advance(hours=47)
        assert len(app.blobs.stored) == 2
        await app.clock.advance(hours=2)
        assert len(app.blobs.stored) == 1
        assert await body(await files.get("k")) == "kept"
        with pytest.raises(Invalid, match="too long"):
            await cast(Any, files)._index.commit(BucketObject(key="k", version="v", size=1, etag=""), [Segment(f"{day}/x", 1)])


EVENTS_MANIFEST = """
application "a" {
  bucket "files" {}
  actor "log" {}
  observer "texts" { source { bucket = "files" rule { actions = ["PutObject", "CompleteMultipartUpload"] suffix = ".txt" } } }
  observer "everything" { source { bucket = "files" } }
}
"""
EVENTS_APP = """
from stead import Actor, Message, Observer, durable


class Log(Actor):
    lines: list[str] = durable(factory=list)

    async def note(self, id: str, line: str) -> None:
        self.lines.append(f"{id} {line}")

    async def read(self) -> list[str]:
        return self.lines

    async def put(self, key: str) -> None:
        await self.env.FILES.put(key, "x")


class _Noting(Observer):
    async def process(self, message: Message) -> None:
        event = message.body
        line = f"{event['action']} {event['bucket']} {event['object']['key']} {event['object']['size']}"
        await self.env.LOG.get(type(self).__name__).note(message.id, line)


class Texts(_Noting):
    pass


class Everything(_Noting):
    pass
"""


async def test_observers_hear_of_what_happened(tmp_path: Path) -> None:
    """Each of those whose rules fit, once for each put, completion and delete that committed; what was refused is no event."""
    (tmp_path / "stead.manifest").write_text(EVENTS_MANIFEST)
    (tmp_path / "app.py").write_text(EVENTS_APP)
    async with TestApp(tmp_path) as app:
        files: Bucket = app.env.FILES
        await files.put("a.txt", "text")
        await files.put("a.txt", "text", only_if=Conditions(etag_does_not_match="*"))
        await files.put("b.png", "image")
        upload = await files.create_multipart_upload("c.txt")
        await upload.complete([await upload.upload_part(1, "x")])
        await upload.complete([Part(part_number=1, etag="again")])
        await files.delete(["a.txt", "none"])
        await app.crash()
        await sleep(60)
        queues = [line.name for line in app._process.node.units() if line.kind == "queue"]
        assert queues == ["texts", "everything"]
        assert (await app._process.node.operate("texts", "status", {}))["dead_letters"] == 0
        assert await heard(app, "Texts") == ["CompleteMultipartUpload files c.txt 1", "PutObject files a.txt 4"]
        assert await heard(app, "Everything") == [
            "CompleteMultipartUpload files c.txt 1",
            "DeleteObject files a.txt 4",
            "PutObject files a.txt 4",
            "PutObject files b.png 5",
        ]


async def heard(app: TestApp, observer: str) -> list[str]:
    """What an observer was told, once for each message however often it came."""
    return sorted(line.partition(" ")[2] for line in set(await app.env.LOG.get(observer).read()))
