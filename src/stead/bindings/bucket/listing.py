"""Listing keys in the order of their UTF-8 bytes, with everything behind a delimiter as one line.

A prefix that was found is skipped: the next read begins behind the last key that can have it, so a folder of a million objects
costs as much as an empty one. Reads after a skip are small and grow while nothing is skipped.
"""

from __future__ import annotations

import msgspec

from stead.api import Storage
from stead.bindings.bucket.objects import BucketObject
from stead.codec import convert

ROWS_MIN = 16  # read at first, and after a skip
_LAST, _SURROGATES, _BEHIND_SURROGATES = 0x10FFFF, 0xD800, 0xE000


class Listing(msgspec.Struct):
    """Objects and prefixes in order; `following` is where the next page begins, None at the end."""

    objects: list[BucketObject]
    prefixes: list[str]
    following: str | None = None

    @property
    def size(self) -> int:
        return len(self.objects) + len(self.prefixes)


async def list_keys(storage: Storage, rows: str, prefix: str, start: str, delimiter: str, limit: int) -> Listing:
    """Up to `limit` keys or prefixes from the key `start` on. Objects are stored under `rows` and their key."""
    found = Listing([], [])
    position: str | None = max(prefix, start)
    wanted = ROWS_MIN
    while position is not None:
        wanted = min(wanted, limit + 1)
        page = await storage.list(rows + prefix, start=rows + position, limit=wanted)
        skipped: str | None = None
        for row, value in page.items():
            key = row[len(rows) :]
            if skipped is not None and key.startswith(skipped):
                continue
            if found.size == limit:
                found.following = key
                return found
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                skipped = None
                found.objects.append(convert(value, BucketObject))
            else:
                skipped = key[: cut + len(delimiter)]
                found.prefixes.append(skipped)
        if len(page) < wanted:
            return found
        position = behind(key) if skipped is None else behind_prefix(skipped)
        wanted = 2 * wanted if skipped is None else ROWS_MIN
    return found


def behind(key: str) -> str:
    """The first key after this one: keys hold no NUL."""
    return key + "\0"


def behind_prefix(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; None if there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if code <= _LAST:
            return prefix + chr(_BEHIND_SURROGATES if code == _SURROGATES else code)
    return None
