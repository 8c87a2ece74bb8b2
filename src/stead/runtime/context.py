"""`self.ctx`: the actor's sockets, work outside turns, the way back in, and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn, Protocol

from stead.api import Sendable, Socket
from stead.errors import Aborted, Invalid
from stead.ids import ActorId
from stead.runtime.gate import Gate
from stead.runtime.room import AutoReply, Room, Rooms
from stead.runtime.sockets import as_message
from stead.runtime.state import ActorState
from stead.runtime.tasks import Tasks
from stead.runtime.turn import CURRENT, TRANSACTION, Delivery, Entry, Turn, acting

SPAWNED_MAX = 1000  # tasks of one actor: each keeps it in memory
AUTO_REPLY_CHARS_MAX = 2048


class Host(Protocol):
    """What the context asks of its actor."""

    actor: ActorId
    auto_reply: tuple[str, str] | None
    spawned: set[asyncio.Task[Any]]
    state: ActorState

    @property
    def gate(self) -> Gate: ...
    @property
    def room(self) -> Room | None: ...

    def accept(self, delivery: Delivery) -> None: ...
    def abort(self, reason: str) -> Aborted: ...
    def spawn_ended(self, task: asyncio.Task[Any]) -> None: ...


class Context:
    """The implementation of `stead.ActorContext`, one for each instance."""

    def __init__(self, host: Host, tasks: Tasks, rooms: Rooms) -> None:
        self._host = host
        self._tasks = tasks
        self._rooms = rooms

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
            TRANSACTION.set(None)
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

    def sockets(self, tag: str | None = None) -> list[Socket]:
        room = self._host.room
        return [] if room is None else [*room.sockets(tag)]

    def broadcast(self, message: Sendable, exclude: Sequence[Socket | str] = (), tag: str | None = None) -> None:
        room = self._host.room
        if room is None:
            as_message(message)  # what cannot be sent is refused whoever is there
        else:
            room.broadcast(message, exclude, tag)

    def auto_reply(self, request: str | None, reply: str = "") -> None:
        pair = None
        if request is not None:
            pair = (_short(request), _short(reply))
        turn = acting(self._host.actor, "ctx.auto_reply()")
        effect = AutoReply(self._rooms, self._host, pair)
        if turn is None:
            self._host.gate.release(effect)
        else:
            turn.effect().add(effect)

    def check_write(self, what: str) -> None:
        self._host.state.current(f"setting {what!r}").check(f"setting {what!r}", writes=True)


def _short(text: str) -> str:
    if not isinstance(text, str) or len(text) > AUTO_REPLY_CHARS_MAX:
        raise Invalid(f"ctx.auto_reply() takes texts of at most {AUTO_REPLY_CHARS_MAX:,} characters")
    as_message(text)
    return text


def _retrieve(reply: asyncio.Future[None]) -> None:
    if not reply.cancelled():
        reply.exception()
