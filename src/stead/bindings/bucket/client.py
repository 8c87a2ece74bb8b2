"""What other units see of a bucket.

A body is streamed to a blob first, outside the index; then the index commits the entry that makes it visible. So a crash at any
moment leaves the old object or the new one, whole, and readers never wait for writers. The index is one actor: it sees every
acknowledged write at once, whoever asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from stead.api import Env, Namespace
from stead.bindings.bucket.conditions import Conditions, refusal
from stead.bindings.bucket.events import Cause
from stead.bindings.bucket.listing import Listing, behind, behind_prefix
from stead.bindings.bucket.objects import (
    BucketObject,
    BucketPage,
    ByteRange,
    HttpMetadata,
    ObjectBody,
    Segment,
    Upload,
    check_key,
    check_metadata,
)
from stead.bindings.bucket.uploads import MultipartUpload
from stead.bindings.bucket.values import Value, chunks_of, hex_checksums, random_hex
from stead.bindings.bucket.writing import Writer
from stead.errors import Invalid

INDEX = "index"  # the name of the actor that keeps it
KEYS_MAX = 1000  # in one page of a list, and of a bulk delete


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of an object before its body is there. `checksums` as in `Writer.written`."""

    http_metadata: HttpMetadata = HttpMetadata()
    custom_metadata: dict[str, str] = {}
    checksums: Mapping[str, str | None] = {}
    only_if: Conditions | None = None
    cause: Cause = Cause()


class Bucket:
    """`await env.DOCUMENTS.put("a/b.txt", "text")`; keys are text of 1 to 1,024 bytes without NUL."""

    def __init__(self, namespace: Namespace[Any], env: Env) -> None:
        self._namespace = namespace
        self._writer = Writer(namespace.id_from_name(INDEX).unit, env)

    async def head(self, key: str) -> BucketObject | None:
        """An object without its body, None if there is none."""
        found: BucketObject | None = await self._index.head(check_key(key))
        return found

    async def get(self, key: str, *, range: ByteRange | None = None, only_if: Conditions | None = None) -> BucketObject | None:
        """An `ObjectBody`: an object with its body, or the part of it that `range` names. None if there is no object.

        If `only_if` does not hold it is a `BucketObject` without a body. Raises `RangeNotSatisfiable`. A body that is replaced
        or deleted while it is being read can be read for ten more minutes.
        """
        located: tuple[BucketObject, list[Segment]] | None = await self._index.locate(check_key(key))
        if located is None:
            return None
        found, segments = located
        if refusal(only_if, found) is not None:
            return found
        part = ByteRange(0, found.size) if range is None else range.of(found.size)
        assert part.offset is not None and part.length is not None
        body = self._read(segments, part.offset, part.offset + part.length)
        fields = {name: getattr(found, name) for name in BucketObject.__struct_fields__}
        return ObjectBody(**{**fields, "range": None if range is None else part}, body=body)

    async def put(
        self,
        key: str,
        value: Value,
        *,
        http_metadata: HttpMetadata | None = None,
        custom_metadata: Mapping[str, str] | None = None,
        only_if: Conditions | None = None,
        **checksums: str | bytes,
    ) -> BucketObject | None:
        """Store an object, durable and visible when this returns. None, and nothing changed, if `only_if` fails.

        Checksums, `md5=`, `sha256=` and the like, as bytes or in hexadecimal, are verified before that: `BadDigest`.
        """
        draft = Draft(
            http_metadata=http_metadata or HttpMetadata(),
            custom_metadata=dict(custom_metadata or {}),
            checksums=hex_checksums(checksums),
            only_if=only_if,
        )
        return await self.write(key, value, draft)

    async def write(self, key: str, value: Value, draft: Draft) -> BucketObject | None:
        """`put`, with all that is said of the object in one value."""
        check_key(key)
        check_metadata(draft.http_metadata, draft.custom_metadata)
        version = random_hex(self._namespace)
        async with self._writer.written(version, chunks_of(value), draft.checksums) as written:
            made = BucketObject(
                key=key,
                version=version,
                size=written.size,
                etag=written.etag,
                checksums=written.checksums,
                http_metadata=draft.http_metadata,
                custom_metadata=draft.custom_metadata,
            )
            stored: BucketObject | None = await self._index.commit(made, written.segments, draft.only_if, draft.cause)
        return stored

    async def delete(self, keys: str | Sequence[str]) -> None:
        """Remove an object, or up to 1,000 at once; those that do not exist are no error."""
        names = [keys] if isinstance(keys, str) else list(keys)
        if len(names) > KEYS_MAX:
            raise Invalid(f"at most {KEYS_MAX:,} keys at a time, got {len(names):,}")
        await self._index.remove([check_key(key) for key in names])

    async def list(
        self,
        *,
        prefix: str = "",
        limit: int = KEYS_MAX,
        cursor: str | None = None,
        delimiter: str = "",
        start_after: str = "",
    ) -> BucketPage:
        """Objects in the order of their keys' UTF-8 bytes, those whose keys begin with `prefix` and come after `start_after`.

        With a `delimiter`, keys that have it behind the prefix are one line for all with the same beginning, in
        `delimited_prefixes`. Both count for `limit`.
        """
        if not 0 < limit <= KEYS_MAX:
            raise Invalid(f"limit must be 1 to {KEYS_MAX:,}, got {limit}")
        start = _read_cursor(cursor) if cursor else behind(start_after) if start_after else ""
        found: Listing = await self._index.keys(prefix, start, delimiter, limit)
        following = None if found.following is None else _cursor(found.following)
        return BucketPage(found.objects, found.prefixes, following is not None, following)

    async def create_multipart_upload(
        self,
        key: str,
        *,
        http_metadata: HttpMetadata | None = None,
        custom_metadata: Mapping[str, str] | None = None,
        checksum_algorithm: str | None = None,
        is_checksum_whole: bool = False,
    ) -> MultipartUpload:
        """Begin an upload in parts. One that is not completed within 7 days is aborted.

        If its parts come with checksums of `checksum_algorithm`, the object has one: of the whole, for a CRC, or of the checksums.
        """
        upload = Upload(
            key=check_key(key),
            upload_id=random_hex(self._namespace),
            http_metadata=http_metadata or HttpMetadata(),
            custom_metadata=dict(custom_metadata or {}),
            checksum_algorithm=checksum_algorithm,
            is_checksum_whole=is_checksum_whole,
        )
        check_metadata(upload.http_metadata, upload.custom_metadata)
        await self._index.begin(upload)
        return self._multipart(upload)

    def resume_multipart_upload(self, key: str, upload_id: str) -> MultipartUpload:
        """An upload that was begun before, here or elsewhere. Nothing is asked until a method of it is called."""
        return self._multipart(Upload(key=check_key(key), upload_id=upload_id))

    async def list_multipart_uploads(
        self, prefix: str = "", after_key: str = "", after_id: str = "", limit: int = KEYS_MAX
    ) -> Sequence[Upload]:
        """Uploads under way by key and id, those behind `after_key`, or behind `after_id` of that key."""
        found: Sequence[Upload] = await self._index.uploads(prefix, after_key, after_id, limit)
        return found

    @property
    def _index(self) -> Any:
        return self._namespace.get(INDEX)

    def _multipart(self, upload: Upload) -> MultipartUpload:
        return MultipartUpload(self._namespace, self._index, self._writer, upload)

    async def _read(self, segments: Sequence[Segment], start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of a body from `start` to before `end`."""
        position = 0
        for segment in segments:
            first, last = max(start, position), min(end, position + segment.size)
            if first < last:
                async for chunk in self._writer.blobs.read(self._writer.full(segment.blob), first - position, last - position):
                    yield chunk
            position += segment.size


def cursor_behind(prefix: str) -> str | None:
    """Where a list goes on behind everything that begins with `prefix`; None if nothing can be there."""
    following = behind_prefix(prefix)
    return None if following is None else _cursor(following)


def _cursor(following: str) -> str:
    return base64.urlsafe_b64encode(following.encode()).decode()


def _read_cursor(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, ValueError) as exc:
        raise Invalid(f"{cursor!r:.80} is no cursor of a list") from exc
