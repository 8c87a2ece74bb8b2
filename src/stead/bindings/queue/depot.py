"""An actor that keeps parcels, by when their messages may be handed out.

    q:<ready ms>:<number>    a packed `Parcel`

The number is that of the parcel's first message, or one of its own where messages were moved: no key is used twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stead.api import Actor, durable
from stead.bindings.queue.parcel import Parcel, first_of, pack, unpack_parcel

PREFIX = "q:"
READ_PARCELS = 16  # at a time: two megabytes, unless messages are large
_TIME_DIGITS, _NUMBER_DIGITS = 15, 12


class Depot(Actor):
    """`count`: the messages it keeps; `last_number` of all that it ever kept."""

    last_number: int = durable(0)
    count: int = durable(0)

    def _numbers(self, count: int) -> list[int]:
        """The next numbers, of messages or of a key."""
        first = self.last_number + 1
        self.last_number += count
        return list(range(first, first + count))

    async def _put(self, parcel: Parcel, key: str) -> None:
        await self.storage.put(key, pack(parcel))
        self.count += len(parcel.numbers)

    async def _cut(self, numbers: Mapping[str, Sequence[int]]) -> list[Parcel]:
        """Remove messages, named by the keys of their parcels; returns those that still were there."""
        found, emptied = [], []
        for key, row in (await self.storage.get_many(list(numbers))).items():
            parcel, rest = unpack_parcel(row).divide(numbers[key])
            if parcel is not None:
                found.append(parcel)
            if rest is None:
                emptied.append(key)
            elif parcel is not None:
                await self.storage.put(key, pack(rest))
        if emptied:
            await self.storage.delete_many(emptied)
        self.count -= sum(len(parcel.numbers) for parcel in found)
        return found

    async def _clear(self) -> int:
        """Remove every message."""
        await self.storage.delete_many(list(await self.storage.list(PREFIX)))
        removed, self.count = self.count, 0
        return removed

    async def _page(self, start_after: str, end: str | None) -> tuple[dict[str, Parcel], bool]:
        """The next parcels, and whether there may be more."""
        rows = await self.storage.list(PREFIX, start_after=start_after, end=end, limit=READ_PARCELS)
        return {key: unpack_parcel(row) for key, row in rows.items()}, len(rows) == READ_PARCELS

    async def _read(self, limit: int, *, end: str | None = None) -> dict[str, Parcel]:
        """The first `limit` messages by their keys."""
        found: dict[str, Parcel] = {}
        missing, start_after, goes_on = limit, PREFIX, True
        while goes_on and missing > 0:
            page, goes_on = await self._page(start_after, end)
            found.update(page)
            missing -= sum(len(parcel.numbers) for parcel in page.values())
            start_after = next(reversed(found), PREFIX)
        return first_of(found, limit)

    async def _first_key(self, start: str = PREFIX) -> str | None:
        return next(iter(await self.storage.list(PREFIX, start=start, limit=1)), None)


def key_of(ready_ms: int, number: int) -> str:
    return f"{PREFIX}{ready_ms:0{_TIME_DIGITS}}:{number:0{_NUMBER_DIGITS}}"


def ready_ms_of(key: str) -> int:
    return int(key[len(PREFIX) : len(PREFIX) + _TIME_DIGITS])
