"""Checksums of bodies: those of Python, and the cyclic ones that S3's clients send."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any, Protocol


class Digest(Protocol):
    """As `hashlib` has them."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Cyclic:
    """A CRC of `size_bytes`; `add(data, previous)` goes on from a previous value."""

    def __init__(self, add: Callable[[bytes, int], int], size_bytes: int) -> None:
        self._add = add
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


def _crc32c() -> Digest:
    return _Cyclic(_native().crc32c, 4)


def _crc64nvme() -> Digest:
    return _Cyclic(_native().crc64nvme, 8)


@cache
def _native() -> Any:
    """Loaded when the first client asks: it takes longer to import than anything else, and few need it."""
    return import_module("awscrt.checksums")


ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "crc32": partial(_Cyclic, zlib.crc32, 4),
    "crc32c": _crc32c,
    "crc64nvme": _crc64nvme,
}
"""The checksums that a bucket verifies and keeps, by name."""


CYCLIC = {"crc32": 8, "crc32c": 8, "crc64nvme": 16}
"""Those of a whole that follow from those of its pieces, and their hexadecimal digits."""


def combined(algorithm: str, pieces: Sequence[tuple[str, int]]) -> str:
    """The checksum of pieces one after the other, from the checksum and the size of each."""
    combine = getattr(_native(), f"combine_{algorithm}")
    value = 0
    for digest, size in pieces:
        value = combine(value, int(digest, 16), size)
    return f"{value:0{CYCLIC[algorithm]}x}"


def new_digest(algorithm: str) -> Digest:
    return ALGORITHMS[algorithm]()
