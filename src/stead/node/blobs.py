"""The bodies of objects in a directory or in the object store of a cloud, through `obstore`.

It is loaded when the first application with a bucket starts: it takes longer to import than the rest of a small application.

A directory needs two things more than a cloud does. What was written is flushed to the disk before it counts as stored, the file
and the entries of its directories: otherwise a power failure would take the body of an object that the index has. And a process
that is killed leaves the beginnings of files behind, which `tidy` removes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from stead.errors import EngineFailed, Invalid

CLOUDS = ("s3://", "gs://", "az://")
WRITE_CHUNK_BYTES = 5 * 1024 * 1024  # the least that S3 takes as a part
WRITE_CONCURRENCY = 2  # chunks of one body on their way: with the one that fills, 15 MiB for each writer
READ_CHUNK_BYTES = 256 * 1024
DELETE_NAMES_MAX = 1000
_PARTIAL = "#"  # is in the names of files that a write has begun, and in no other


class ObjectBlobs:
    """The implementation of `stead.bindings.Blobs` at `place`: a directory, or an address that begins with one of CLOUDS."""

    def __init__(self, place: str) -> None:
        self._obstore = _obstore()
        self._directory: Path | None = None
        try:
            if place.startswith(CLOUDS):
                self._store = self._obstore.store.from_url(place)
            elif "://" in place:
                raise Invalid(f"blobs cannot be at {place!r}; give a directory, or an address that begins with {', '.join(CLOUDS)}")
            else:
                self._directory = Path(place)
                self._store = self._obstore.store.LocalStore(self._directory, mkdir=True, automatic_cleanup=True)
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as exc:
            raise Invalid(f"blobs cannot be at {place!r}: {_first_line(exc)}") from exc

    async def write(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        source = _Source(chunks)
        try:
            await self._obstore.put_async(
                self._store, name, source, chunk_size=WRITE_CHUNK_BYTES, max_concurrency=WRITE_CONCURRENCY
            )
            if self._directory is not None:
                await asyncio.to_thread(_flush, self._directory, self._directory / name)
        except (self._obstore.exceptions.BaseError, OSError) as exc:
            if source.error is not None:
                raise source.error from None
            raise self._failed("write", name, exc) from exc

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            found = await self._obstore.get_async(self._store, name, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=READ_CHUNK_BYTES):
                yield bytes(chunk)
        except (self._obstore.exceptions.BaseError, OSError) as exc:
            raise self._failed("read", name, exc) from exc

    async def delete(self, names: Sequence[str]) -> None:
        for first in range(0, len(names), DELETE_NAMES_MAX):
            await self._delete(names[first : first + DELETE_NAMES_MAX])

    async def folders(self, folder: str) -> list[str]:
        with self._translated("list", folder):
            found = await self._obstore.list_with_delimiter_async(self._store, folder)
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    async def names(self, folder: str) -> AsyncIterator[list[str]]:
        with self._translated("list", folder):
            async for lines in self._obstore.list(self._store, folder, chunk_size=DELETE_NAMES_MAX):
                yield [line["path"].rpartition("/")[2] for line in lines]

    async def tidy(self, folder: str) -> None:
        if self._directory is not None:
            await asyncio.to_thread(_remove_partial, self._directory / folder)

    async def _delete(self, names: Sequence[str]) -> None:
        """All at once; where one is missing already, which a directory takes for an error, one by one."""
        try:
            await self._obstore.delete_async(self._store, list(names))
        except FileNotFoundError:
            if len(names) > 1:
                for name in names:
                    await self._delete([name])
        except (self._obstore.exceptions.BaseError, OSError) as exc:
            raise self._failed("delete", names[0], exc) from exc

    @contextmanager
    def _translated(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except (self._obstore.exceptions.BaseError, OSError) as exc:
            raise self._failed(what, name, exc) from exc

    def _failed(self, what: str, name: str, exc: Exception) -> EngineFailed:
        return EngineFailed(f"the object store could not {what} {name}: {_first_line(exc)}")


class _Source:
    """Chunks on their way to the store, which remembers if it was they that failed."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except BaseException as exc:
            self.error = exc
            raise


@cache
def _obstore() -> Any:
    for part in ("store", "exceptions"):
        import_module(f"obstore.{part}")
    return import_module("obstore")


def _flush(root: Path, path: Path) -> None:
    """Make a file and its way down from `root` survive a power failure."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return


def _remove_partial(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if _PARTIAL in path.name:
                path.unlink(missing_ok=True)


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0] or type(exc).__name__
