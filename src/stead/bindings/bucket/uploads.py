"""An upload in parts, as its caller sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stead.api import Namespace
from stead.bindings.bucket.conditions import Conditions
from stead.bindings.bucket.index import PART_NUMBER_MAX
from stead.bindings.bucket.objects import BucketObject, Part, Upload
from stead.bindings.bucket.values import Value, chunks_of, hex_checksums, random_hex
from stead.bindings.bucket.writing import Writer
from stead.errors import Invalid

PARTS_MAX = 1000  # in one page of a list


class MultipartUpload:
    """`part = await upload.upload_part(1, data)`, then `await upload.complete([part, …])`. It holds nothing but its name."""

    def __init__(self, namespace: Namespace[Any], index: Any, writer: Writer, upload: Upload) -> None:
        self._namespace = namespace
        self._index = index
        self._writer = writer
        self._upload = upload

    @property
    def key(self) -> str:
        return self._upload.key

    @property
    def upload_id(self) -> str:
        return self._upload.upload_id

    async def upload_part(self, part_number: int, value: Value, **checksums: str | bytes) -> Part:
        """Store a part, in place of one that has its number. All but the last need 5 MiB."""
        return await self.write_part(part_number, value, hex_checksums(checksums))

    async def write_part(self, part_number: int, value: Value, checksums: Mapping[str, str | None]) -> Part:
        """`upload_part` with checksums in hexadecimal, which are read when the value has ended; None: compute it."""
        if not 0 < part_number <= PART_NUMBER_MAX:
            raise Invalid(f"a part's number is 1 to {PART_NUMBER_MAX:,}, not {part_number}")
        async with self._writer.written(random_hex(self._namespace), chunks_of(value), checksums) as written:
            part = Part(
                part_number=part_number,
                etag=written.etag,
                size=written.size,
                checksums=written.checksums,
                segment=written.segments[0] if written.segments else None,
            )
            stored: Part = await self._index.add_part(self._upload, part)
        return stored

    async def list_parts(self, after: int = 0, limit: int = PARTS_MAX) -> list[Part]:
        """The parts with numbers above `after`, in order. Raises `NoSuchUpload`."""
        if not 0 < limit <= PARTS_MAX + 1:
            raise Invalid(f"limit must be 1 to {PARTS_MAX:,}, got {limit}")
        found: list[Part] = await self._index.parts(self._upload, after, limit)
        return found

    async def complete(
        self, parts: Sequence[Part], only_if: Conditions | None = None, checksums: Mapping[str, str] | None = None
    ) -> BucketObject | None:
        """Put the parts together, in the order given; the object is there when this returns. None if `only_if` does not hold.

        May be repeated. `checksums` are those that the object must come to have. Raises `NoSuchUpload`, `InvalidPart`,
        `InvalidPartOrder`, `PartTooSmall` or `BadDigest`.
        """
        named = [msgspec.structs.replace(part, segment=None) for part in parts]
        made: BucketObject | None = await self._index.complete(self._upload, named, only_if, dict(checksums or {}))
        return made

    async def abort(self) -> None:
        """Throw the parts away. Raises `NoSuchUpload`."""
        await self._index.abort(self._upload)
