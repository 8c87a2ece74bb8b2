"""Objects of a bucket as callers see them, and as the index keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from stead.bindings.bucket.failures import RangeNotSatisfiable
from stead.errors import Invalid

KEY_BYTES_MAX = 1024
METADATA_BYTES_MAX = 8 * 1024  # of one object: names and values, http and custom together
Chunks = AsyncIterator[bytes]
HEADER_VALUE = re.compile(r"[\x20-\x7e]*").fullmatch
_EPOCH = datetime.fromtimestamp(0, UTC)


class HttpMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """Headers that are sent with the body. `cache_expiry` is the text of `Expires`."""

    content_type: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    cache_control: str | None = None
    cache_expiry: str | None = None


class ByteRange(msgspec.Struct, frozen=True):
    """`length` bytes from `offset`, or to the end; or the last `suffix` bytes."""

    offset: int | None = None
    length: int | None = None
    suffix: int | None = None

    def of(self, size: int) -> ByteRange:
        """What of an object of this size is in it, as offset and length. Raises `RangeNotSatisfiable` if nothing is."""
        if self.suffix is not None:
            if self.offset is not None or self.length is not None or self.suffix < 0:
                raise Invalid("a range is an offset with a length or without, or a suffix of 0 or more bytes")
            start, end = max(0, size - self.suffix), size
        else:
            start = self.offset or 0
            end = size if self.length is None else min(size, start + self.length)
            if start < 0 or (self.length is not None and self.length < 1):
                raise Invalid("a range begins at 0 or later and has 1 byte or more")
        if start >= end:
            raise RangeNotSatisfiable(f"the object has {size:,} bytes, none of them in the range that was asked for")
        return ByteRange(start, end - start)


class BucketObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object without its body. `checksums` are hexadecimal, by the algorithm's name; `range` is what of the body was read."""

    key: str
    version: str
    size: int
    etag: str
    checksums: dict[str, str] = {}
    uploaded: datetime = _EPOCH
    http_metadata: HttpMetadata = HttpMetadata()
    custom_metadata: dict[str, str] = {}
    range: ByteRange | None = None

    @property
    def http_etag(self) -> str:
        """The ETag as a header has it: in quotes."""
        return f'"{self.etag}"'


class ObjectBody(BucketObject, frozen=True, kw_only=True):
    """An object with its body, which is read once: whole with `bytes`, `text` or `json`, or some at a time with `body`."""

    body: Chunks

    async def bytes(self) -> bytes:
        return b"".join([chunk async for chunk in self.body])

    async def text(self) -> str:
        return (await self.bytes()).decode()

    async def json(self) -> Any:
        return json.loads(await self.bytes())


class BucketPage(msgspec.Struct, frozen=True):
    """One page of a list; `cursor` asks for the next one if it is `truncated`."""

    objects: list[BucketObject]
    delimited_prefixes: list[str]
    truncated: bool
    cursor: str | None = None


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A blob that is a part of a body, or all of it."""

    blob: str
    size: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload."""

    part_number: int
    etag: str
    size: int = 0
    checksums: dict[str, str] = {}
    uploaded: datetime = _EPOCH
    segment: Segment | None = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload in parts that is under way."""

    key: str
    upload_id: str
    initiated: datetime = _EPOCH
    http_metadata: HttpMetadata = HttpMetadata()
    custom_metadata: dict[str, str] = {}
    checksum_algorithm: str | None = None
    is_checksum_whole: bool = False


def check_key(key: object) -> str:
    if not isinstance(key, str) or not key or "\0" in key:
        raise Invalid(f"a key is text without NUL, got {key!r:.80}")
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as exc:
        raise Invalid("a key must be valid Unicode (it holds a lone surrogate)") from exc
    if size_bytes > KEY_BYTES_MAX:
        raise Invalid(f"a key has at most {KEY_BYTES_MAX:,} bytes in UTF-8, this one has {size_bytes:,}")
    return key


def check_metadata(http: HttpMetadata, custom: dict[str, str]) -> None:
    if not all(isinstance(text, str) for pair in custom.items() for text in pair):
        raise Invalid("custom metadata is text by text")
    texts = [text for text in msgspec.structs.astuple(http) if text is not None]
    unfit = next((text for text in texts if not HEADER_VALUE(text)), None)
    if unfit is not None:
        raise Invalid(f"{unfit!r:.80} cannot be the value of a header: visible ASCII and spaces can")
    size_bytes = sum(len(text.encode()) for text in [*texts, *custom, *custom.values()])
    if size_bytes > METADATA_BYTES_MAX:
        raise Invalid(f"the metadata has {size_bytes:,} bytes; the limit is {METADATA_BYTES_MAX:,}")
