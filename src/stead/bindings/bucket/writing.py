"""Writing a body to a blob: streamed, counted and checked on the way."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hmac import compare_digest

import msgspec

from stead.api import Env
from stead.bindings.bucket.blobs import Blobs, blobs_of, new_blob
from stead.bindings.bucket.digests import ALGORITHMS, Digest, new_digest
from stead.bindings.bucket.failures import BadDigest
from stead.bindings.bucket.objects import Segment
from stead.errors import Invalid, Unavailable

ETAG = "md5"  # what an ETag is made of


class Written(msgspec.Struct, frozen=True):
    """A body that is stored, and that nobody sees yet."""

    segments: list[Segment]
    checksums: dict[str, str]

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def etag(self) -> str:
        return self.checksums[ETAG]


class Writer:
    """Writes the bodies of one bucket."""

    def __init__(self, bucket: str, env: Env) -> None:
        self._bucket = bucket
        self._env = env

    @property
    def blobs(self) -> Blobs:
        return blobs_of(self._env)

    def full(self, blob: str) -> str:
        return f"{self._bucket}/{blob}"

    @asynccontextmanager
    async def written(
        self, random: str, chunks: AsyncIterable[bytes], expected: Mapping[str, str | None]
    ) -> AsyncIterator[Written]:
        """Store a body for the block, which commits it. If the commit did not happen the body is removed again.

        `expected` has the checksums in hexadecimal by their algorithms, None for those that are only to be computed. It is read
        when the body has ended, so it may be filled by what comes behind the body. Raises `BadDigest`.
        """
        passing = _Passing(chunks, expected)
        blob = new_blob(self._env.now(), random)
        await self.blobs.write(self.full(blob), passing)
        try:
            yield Written([Segment(blob, passing.size)] if passing.size else [], passing.checksums())
        except (Invalid, Unavailable):  # of any other failure nobody knows what became of the commit: the sweep will
            await self.blobs.delete([self.full(blob)])
            raise
        if not passing.size:
            await self.blobs.delete([self.full(blob)])


class _Passing:
    """Chunks on their way, counted and digested. What does not match is refused before the end, so that nothing is stored."""

    def __init__(self, chunks: AsyncIterable[bytes], expected: Mapping[str, str | None]) -> None:
        unknown = set(expected) - set(ALGORITHMS)
        if unknown:
            raise Invalid(f"there is no checksum {unknown.pop()!r:.40}; there are {', '.join(ALGORITHMS)}")
        self._chunks = chunks
        self._expected = expected
        self._digests: dict[str, Digest] = {name: new_digest(name) for name in {ETAG, *expected}}
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.size += len(chunk)
            for digest in self._digests.values():
                digest.update(chunk)
            yield chunk
        found = self.checksums()
        for name, wanted in self._expected.items():
            if wanted is not None and not compare_digest(found[name], wanted.lower()):
                raise BadDigest(f"the body has the {name} {found[name]}, not {wanted!r:.140}")

    def checksums(self) -> dict[str, str]:
        return {name: digest.digest().hex() for name, digest in self._digests.items()}
