"""The output gate of one activation: nothing leaves before the writes it may have seen are durable.

Whatever wants out (a reply, a call to another unit, a caller of `sync`) is held with the number of the last commit submitted before
it, and released in the order it came once that commit is durable. With nothing pending it leaves at once. If a commit is lost,
everything held is answered with the error instead: nobody hears of what did not happen.

In a cluster a node may be asleep while another takes its actors over. There the gate looks at the node's lease as well, at the very
moment that something leaves: what a turn only read may be old by then, and nobody would fence it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from stead.errors import Ambiguous, SteadError


class Held(Protocol):
    """Something that waits at the gate."""

    def release(self, value: Any, error: BaseException | None) -> None:
        """Leave with `value`, or with the error that takes its place."""
        ...


class Wait:
    """A coroutine that waits at the gate."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def release(self, value: Any, error: BaseException | None) -> None:
        if not self.future.done():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


class Lease(Protocol):
    """This node's right to own actors."""

    @property
    def is_held(self) -> bool:
        """Whether nobody else can own them at this moment, by a clock that does not stand still with the process."""
        ...


class Gate:
    """`submitted` and `durable` are commit numbers (`seq`) of the actor."""

    __slots__ = ("_held", "durable", "submitted")

    def __init__(self, seq: int) -> None:
        self.submitted = seq
        self.durable = seq
        self._held: deque[tuple[int, Held, Any, BaseException | None]] = deque()

    @property
    def is_open(self) -> bool:
        return self.durable == self.submitted

    def release(self, held: Held, value: Any = None, error: BaseException | None = None) -> None:
        """Let `held` leave with `value` or `error` as soon as all that was submitted so far is durable."""
        if self.durable == self.submitted and not self._held:
            held.release(value, error)
        else:
            self._held.append((self.submitted, held, value, error))

    async def wait_open(self) -> None:
        """Return when all that was submitted so far is durable."""
        if self.durable != self.submitted or self._held:
            future = asyncio.get_running_loop().create_future()
            self._held.append((self.submitted, Wait(future), None, None))
            await future

    def settle(self, seq: int) -> None:
        """Commits up to `seq` are durable."""
        self.durable = seq
        held = self._held
        while held and held[0][0] <= seq:
            _, waiting, value, error = held.popleft()
            waiting.release(value, error)

    def lose(self, error: SteadError) -> None:
        """A commit was lost, and with it everything that waits here. Each gets an error of its own."""
        while self._held:
            own = type(error)(str(error))
            own.__cause__ = error.__cause__
            self._held.popleft()[1].release(None, own)


class LeasedGate(Gate):
    """A gate that lets nothing out while the node's lease is not held."""

    __slots__ = ("_lease",)

    def __init__(self, seq: int, lease: Lease) -> None:
        super().__init__(seq)
        self._lease = lease

    def release(self, held: Held, value: Any = None, error: BaseException | None = None) -> None:
        if self._lease.is_held:
            super().release(held, value, error)
        else:
            held.release(None, lease_lost())

    async def wait_open(self) -> None:
        await super().wait_open()
        if not self._lease.is_held:
            raise lease_lost()

    def settle(self, seq: int) -> None:
        if self._lease.is_held:
            super().settle(seq)
        else:
            self.durable = seq
            self.lose(lease_lost())


def lease_lost() -> Ambiguous:
    """What hears who waits for a node that may not be the owner any more."""
    return Ambiguous("the node has lost touch with the database, and another may own the actor by now; read the state first")
