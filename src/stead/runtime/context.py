"""`self.ctx`: work outside turns, the way back in, and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn, Protocol

from stead.errors import Aborted, Invalid
from stead.runtime.state import ActorState
from stead.runtime.tasks import Tasks
from stead.runtime.turn import CURRENT, Delivery, Entry, Turn

SPAWNED_MAX = 1000  # tasks of one actor: each keeps it in memory


class Host(Protocol):
    """What the context asks of its actor."""

    spawned: set[asyncio.Task[Any]]
    state: ActorState

    def accept(self, delivery: Delivery) -> None: ...
    def abort(self, reason: str) -> Aborted: ...
    def spawn_ended(self, task: asyncio.Task[Any]) -> None: ...


class Context:
    """The implementation of `stead.ActorContext`, one for each instance."""

    def __init__(self, host: Host, tasks: Tasks) -> None:
        self._host = host
        self._tasks = tasks

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        if len(self._host.spawned) >= SPAWNED_MAX:
            work.close()
            raise Invalid(f"an actor may have {SPAWNED_MAX} spawned tasks at a time")
        task = self._tasks.start(work)
        self._host.spawned.add(task)
        task.add_done_callback(self._host.spawn_ended)

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self._turn()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        running = CURRENT.get()
        if running is not None and not running.over:
            raise Invalid("ctx.turn() inside a turn would wait for itself; it is for work started with ctx.spawn()")
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[Turn] = loop.create_future()
        left: asyncio.Future[None] = loop.create_future()
        reply: asyncio.Future[None] = loop.create_future()
        reply.add_done_callback(_retrieve)  # who leaves by an error of its own does not ask for the reply
        self._host.accept(Delivery(Entry(self, entered, left), reply))
        try:
            either: list[asyncio.Future[Any]] = [entered, reply]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not entered.done():
                await reply  # refused: raises
            CURRENT.set(entered.result())
            yield
        except BaseException:
            left.cancel()
            if entered.done():
                await asyncio.wait({reply})
            raise
        finally:
            CURRENT.set(None)
            entered.cancel()
        if not left.done():
            left.set_result(None)
        await reply

    def abort(self, reason: str = "") -> NoReturn:
        raise self._host.abort(reason)

    def check_write(self, what: str) -> None:
        self._host.state.current(f"setting {what!r}").check(f"setting {what!r}", writes=True)


def _retrieve(reply: asyncio.Future[None]) -> None:
    if not reply.cancelled():
        reply.exception()
