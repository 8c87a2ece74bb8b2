"""What callers may hand to a bucket as a body or a checksum."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from stead.api import Namespace
from stead.errors import Invalid

CHUNK_BYTES = 1024 * 1024  # of a body that is given whole

Value = str | bytes | bytearray | memoryview | AsyncIterable[bytes]
"""What `put` takes: text, bytes, or a stream of bytes."""


def chunks_of(value: Value) -> AsyncIterable[bytes]:
    if isinstance(value, str):
        return _pieces(value.encode())
    if isinstance(value, bytes | bytearray | memoryview):
        return _pieces(bytes(value))
    if isinstance(value, AsyncIterable):
        return value
    raise Invalid(f"a body is text, bytes or an async iterable of bytes, not {type(value).__name__}")


async def _pieces(data: bytes) -> AsyncIterator[bytes]:  # noqa: RUF029 - a stream like others
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def hex_checksums(checksums: Mapping[str, str | bytes]) -> dict[str, str | None]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in checksums.items()}


def random_hex(namespace: Namespace[Any]) -> str:
    """32 digits that nobody can guess."""
    return namespace.unique_id().text.rpartition("~")[2]
