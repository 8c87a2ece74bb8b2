"""Synchronous work that can wait: SQLite asks for a page in the middle of a statement, and the page is in a database far away.

The work runs in a *fiber*, a stack of its own on the same thread. Where it has to wait, its stack is set aside and the task that
started it waits in its place, so the loop and all other actors go on; then the work continues where it stood. Nothing runs in
parallel, no statement runs twice, and what the work reads goes through memory page by page.

While work waits, other code runs: whoever starts work sees to it that nobody touches what it uses.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

from greenlet import getcurrent, greenlet

from stead.errors import EngineFailed

T = TypeVar("T")
IDLE_MAX = 16  # fibers kept for the next work: to make one costs more than all else


class _Done(NamedTuple):
    """How the work ended."""

    value: Any
    error: BaseException | None


class _Idle(threading.local):
    """The fibers of this thread that have nothing to do."""

    def __init__(self) -> None:
        self.fibers: list[greenlet] = []


_idle = _Idle()


async def run(work: Callable[[], T]) -> T:
    """What `work` returns; it may call `wait`. If this task is cancelled meanwhile, `wait` raises that inside the work."""
    fiber = _idle.fibers.pop() if _idle.fibers else greenlet(_serve)
    given = fiber.switch(work)
    while not isinstance(given, _Done):
        try:
            value = await given
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the work has to end with it
            given = fiber.throw(exc)
        else:
            given = fiber.switch(value)
    if len(_idle.fibers) < IDLE_MAX:
        _idle.fibers.append(fiber)
    if given.error is not None:
        raise given.error
    return given.value  # type: ignore[no-any-return]


def wait(awaitable: Awaitable[T]) -> T:
    """The result of `awaitable`, inside work that `run` runs."""
    loop = getcurrent().parent
    assert loop is not None, "only work that runs in a fiber can wait"
    return loop.switch(awaitable)  # type: ignore[no-any-return]


def answer(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """The result of a coroutine, and whether it had to be waited for. Raises `EngineFailed` where that is so outside a fiber."""
    try:
        suspended_on = work.send(None)
    except StopIteration as stop:
        return stop.value, False
    if getcurrent().parent is None:
        work.close()
        raise EngineFailed("the engine cannot answer at once, and nothing here can wait")
    return wait(_Rest(work, suspended_on)), True


class _Rest(Awaitable[T]):
    """What is left of a coroutine that has suspended once."""

    def __init__(self, work: Coroutine[Any, Any, T], suspended_on: Any) -> None:
        self._work = work
        self._suspended_on = suspended_on

    def __await__(self) -> Generator[Any, Any, T]:
        suspended_on = self._suspended_on
        while True:
            error = value = None
            try:
                value = yield suspended_on
            except BaseException as exc:  # noqa: BLE001 - as `await` does: it is the coroutine's to hear
                error = exc
            try:
                suspended_on = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]


def _serve(work: Callable[[], Any]) -> None:
    """The life of a fiber: one work after the other."""
    loop = getcurrent().parent
    assert loop is not None, "a fiber belongs to a loop"
    while True:
        try:
            done = _Done(work(), None)
        except BaseException as exc:  # noqa: BLE001 - it belongs to who started the work
            done = _Done(None, exc)
        del work
        work = loop.switch(done)
