"""The contract of engines that several nodes share (`stead.storage.membership`), as tests that any such engine must pass.

An engine's author subclasses `SharedConformance` in a pytest module and overrides `open_engines`:

    class TestMyEngine(SharedConformance):
        async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
            return [await MyEngine.connect(place) for _ in range(count)]

Each test has an empty place of its own. Leases pass by waiting on the running loop's clock: an engine in memory runs on the seeded
loop, where that costs nothing (`run`), one with a clock of its own sets `lease_s` short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

from stead.clock import sleep
from stead.storage.membership import SharedEngine


class SharedOpenable:
    """What every group of tests needs of an engine's author."""

    lease_s: ClassVar[float] = 1.0  # long enough that a few statements never take as much

    async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
        """Override to open `count` engines, none of them joined, over the data that is kept in (or known by) `place`."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Override to run a test on another loop than asyncio's."""
        asyncio.run(work)

    async def pass_lease(self) -> None:
        """Override if a lease can be over sooner than by waiting."""
        await sleep(self.lease_s * 1.1)
