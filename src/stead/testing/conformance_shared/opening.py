"""Tests over engines that share their data, opened for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from stead.clock import sleep
from stead.storage.membership import NodeInfo, SharedEngine
from stead.testing.conformance.opening import named_like


def node(number: int) -> NodeInfo:
    """What the node of that number says of itself."""
    labels = {"disk": "fast"} if number else {}
    return NodeInfo(f"node-{number}", f"127.0.0.1:{7000 + number}", f"http://node-{number}", "eu", labels, "digest")


class Openable:
    """What every group of tests needs of an engine's author."""

    lease_s: ClassVar[float] = 1.0  # so long that the engine never takes half of it for a few statements

    async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
        """Override to open `count` engines, none of them joined, over the data that is kept in (or known by) `place`."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Override to run a test on another loop than asyncio's."""
        asyncio.run(work)

    async def pass_lease(self, *alive: SharedEngine) -> None:
        """Let the leases of all others but `alive` be over."""
        for _ in range(3):
            await sleep(self.lease_s * 0.4)
            for engine in alive:
                await engine.renew()


Check = Callable[..., Coroutine[Any, Any, None]]
Test = Callable[[Openable, Path], None]


def over(count: int, is_joined: bool = True) -> Callable[[Check], Test]:
    """Make a coroutine over so many engines, each a node, a test of plain pytest."""

    def decorate(check: Check) -> Test:
        def test(self: Openable, tmp_path: Path) -> None:
            async def run() -> None:
                engines = await self.open_engines(tmp_path, count)
                try:
                    for number, engine in enumerate(engines if is_joined else ()):
                        await engine.join(node(number), self.lease_s)
                    await check(self, *engines)
                finally:
                    for engine in engines:
                        await engine.close()

            self.run(run())

        return named_like(check, test)

    return decorate
