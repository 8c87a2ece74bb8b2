"""Where the bodies of objects are: the protocol that whoever runs a node provides.

A blob is written once, under a name that nobody can guess, and never changed. Its name begins with the bucket and the day on which
its writing began, so that what was never committed can be found by looking through a day that is over, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from stead.api import Env

BLOBS = ".blobs"  # the name under which `env` has them: one that no unit of a manifest can have


class Blobs(Protocol):
    """Bytes by name; a name is folders and a last part, divided by slashes. What fails raises `EngineFailed`."""

    async def write(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        """Store a blob: durable and whole when this returns, absent if it raises. What `chunks` raises is raised."""
        ...

    def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`, some at a time."""
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Remove blobs; those that do not exist are no error."""
        ...

    async def folders(self, folder: str) -> list[str]:
        """The last parts of the folders in `folder`."""
        ...

    def names(self, folder: str) -> AsyncIterator[list[str]]:
        """The last parts of the blobs in `folder`, some at a time."""
        ...

    async def tidy(self, folder: str) -> None:
        """Remove what interrupted writes left in a folder in which nobody writes any more."""
        ...


def blobs_of(env: Env) -> Blobs:
    """Those of the node."""
    blobs: Blobs = getattr(env, BLOBS)
    return blobs


def new_blob(now: datetime, random: str) -> str:
    """The name of a blob whose writing begins now, below its bucket's folder."""
    return f"{day_of(now)}/{random}"


def day_of(moment: datetime) -> str:
    return f"{moment:%Y%m%d}"


def last_day_over(now: datetime) -> str:
    """The last day whose blobs are committed by now, or never will be: a write may take from its own day to the end of the next."""
    return day_of(now - timedelta(days=2))
