"""Tests over an engine that is opened for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from stead.storage.contract import Engine


class Openable:
    """What every group of tests needs of an engine's author."""

    reopens: ClassVar[bool] = True

    async def open_engine(self, place: Path) -> Engine:
        """Override to open the engine whose data is kept in (or known by) `place`, an existing directory."""
        raise NotImplementedError


Test = TypeVar("Test", bound=Callable[..., None])
Check = Callable[[Any, Engine], Coroutine[Any, Any, None]]
Reopen = Callable[[], Coroutine[Any, Any, Engine]]


def checked(check: Check) -> Callable[[Openable, Path], None]:
    """Make a coroutine over a fresh engine a test of plain pytest."""

    def test(self: Openable, tmp_path: Path) -> None:
        async def run() -> None:
            engine = await self.open_engine(tmp_path)
            try:
                await check(self, engine)
            finally:
                await engine.close()

        asyncio.run(run())

    return named_like(check, test)


def reopened(
    check: Callable[[Any, Engine, Reopen], Coroutine[Any, Any, None]],
) -> Callable[[Openable, Path], None]:
    """As `checked`, with a function that closes the engine and opens the same place again."""

    def test(self: Openable, tmp_path: Path) -> None:
        if not self.reopens:
            pytest.skip("the engine cannot be opened again")

        async def run() -> None:
            engine = await self.open_engine(tmp_path)

            async def reopen() -> Engine:
                nonlocal engine
                await engine.close()
                engine = await self.open_engine(tmp_path)
                return engine

            try:
                await check(self, engine, reopen)
            finally:
                await engine.close()

        asyncio.run(run())

    return named_like(check, test)


def named_like(check: Callable[..., Any], test: Test) -> Test:
    """`test`, under the name of `check`."""
    # Not functools.wraps: pytest would follow it and look for fixtures named like the coroutine's parameters.
    test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
    return test
