"""Blobs in memory: what an object store does, without one."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence

from stead.clock import sleep
from stead.errors import EngineFailed
from stead.ids import Chance

READ_BYTES = 64 * 1024
_STEPS_MAX = 4  # of the loop that an answer takes at most, so that others run in between
_NAMES = 10  # in one piece of a list


class MemoryBlobs:
    """The contract of `stead.bindings.Blobs` in a dictionary, which outlives crashes of the application."""

    def __init__(self, chance: Chance) -> None:
        self.stored: dict[str, bytes] = {}
        self._chance = chance

    async def write(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            await self._reach()
        self.stored[name] = bytes(data)
        await self._reach()

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        await self._reach()
        if name not in self.stored:
            raise EngineFailed(f"there is no blob {name}")
        data = self.stored[name]
        for position in range(start, end, READ_BYTES):
            await self._reach()
            yield data[position : min(position + READ_BYTES, end)]

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            await self._reach()
            self.stored.pop(name, None)

    async def folders(self, folder: str) -> list[str]:
        await self._reach()
        below = [name.removeprefix(f"{folder}/") for name in self.stored if name.startswith(f"{folder}/")]
        return sorted({name.partition("/")[0] for name in below if "/" in name})

    async def names(self, folder: str) -> AsyncIterator[list[str]]:
        await self._reach()
        found = sorted(name.removeprefix(f"{folder}/") for name in self.stored if name.startswith(f"{folder}/"))
        for position in range(0, len(found), _NAMES):
            await self._reach()
            yield found[position : position + _NAMES]

    async def tidy(self, folder: str) -> None:
        await self._reach()

    async def _reach(self) -> None:
        for _ in range(self._chance.below(_STEPS_MAX + 1)):
            await sleep(0)
