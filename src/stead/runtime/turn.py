"""One turn: the processing of one event by one actor, and what it has written so far."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from stead.errors import Invalid, SteadError
from stead.events import AlarmDue, Chain, Event, TurnRef
from stead.ids import ActorId
from stead.runtime.effects import Effects
from stead.storage.entries import Layer

if TYPE_CHECKING:
    from stead.runtime.activation import Activation
    from stead.runtime.nesting import Nest

CURRENT: ContextVar[Turn | None] = ContextVar("stead_turn", default=None)
"""The turn on whose behalf the running code acts; None outside turns."""
TRANSACTION: ContextVar[Layer | None] = ContextVar("stead_transaction", default=None)
"""The innermost `transaction()` of that turn which the running code is in, as the layer of its writes."""

_BESIDE = "while another task has a storage.transaction() open, with which it would mix; await that task first"
_OUTLIVED = "in a task that was started inside a storage.transaction() which has ended; await the task inside"


class Entry:
    """The event behind `ctx.turn()`: the turn's work is a block of code that runs elsewhere between `entered` and `left`."""

    __slots__ = ("chain", "context", "entered", "left")

    def __init__(self, context: object, entered: asyncio.Future[Turn], left: asyncio.Future[None]) -> None:
        self.chain: Chain = ()
        self.context = context  # the `ctx` of the instance that the block belongs to
        self.entered, self.left = entered, left


class AlarmFailed:
    """The event that writes down a failed run of an alarm, in a turn of its own since the run's was rolled back."""

    __slots__ = ("chain", "due", "error")

    def __init__(self, due: AlarmDue, error: BaseException) -> None:
        self.chain: Chain = ()
        self.due, self.error = due, error


class SignalsAnswered:
    """The event that writes down what the targets of an actor's signals have answered."""

    __slots__ = ("chain",)

    def __init__(self) -> None:
        self.chain: Chain = ()


class Warmed:
    """The event that brings an actor into memory, for whoever comes next."""

    __slots__ = ("chain",)

    def __init__(self) -> None:
        self.chain: Chain = ()


class Reply(Protocol):
    """Who hears how an event ended: a future, or the receipt of a socket's event."""

    def done(self) -> bool: ...
    def set_result(self, value: Any, /) -> None: ...
    def set_exception(self, error: Any, /) -> None: ...


class _Nobody:
    """Who waits for the reply to an event of our own."""

    def done(self) -> bool:
        return True

    def set_result(self, value: Any, /) -> None:
        raise AssertionError("nobody waits")

    def set_exception(self, error: Any, /) -> None:
        raise AssertionError("nobody waits")


NOBODY = _Nobody()


class Delivery:
    """An event on its way through a mailbox, and who waits for its reply."""

    __slots__ = ("event", "reply", "shared", "task", "turn", "waiting_at", "waiting_in")

    def __init__(self, event: Event | Entry | AlarmFailed | SignalsAnswered | Warmed, reply: Reply, shared: bool = False) -> None:
        self.event = event
        self.reply = reply
        self.shared = shared  # may run beside others that are
        self.waiting_at: Activation | None = None
        self.waiting_in: Turn | None = None  # the turn that it came back to
        self.task: asyncio.Task[None] | None = None  # that runs it
        self.turn: Turn | None = None  # while it runs

    def begin(self, turn: Turn) -> None:
        """It has stopped waiting and runs as `turn`."""
        self.turn = turn
        self.waiting_at = self.waiting_in = None

    def beforehand(self) -> Delivery:
        """The same event, for the turn that prepares the actor for it."""
        prepare = Delivery(self.event, self.reply)
        prepare.task = self.task
        return prepare

    def release(self, value: Any, error: BaseException | None) -> None:
        """Answer, unless the sender has gone."""
        if self.reply.done():
            return
        if error is None:
            self.reply.set_result(value)
        else:
            self.reply.set_exception(error)


class Turn:
    """What a turn holds between its start and its end. Once `over`, nothing it still tries has any effect."""

    __slots__ = (
        "__weakref__",
        "activation",
        "broken",
        "calls",
        "deadline_s",
        "delivery",
        "effects",
        "final",
        "layers",
        "nest",
        "number",
        "over",
        "reads",
        "saved",
        "sql_begun",
        "sql_sealed",
    )

    def __init__(self, activation: Activation, number: int, delivery: Delivery, reads: bool) -> None:
        self.activation = activation
        self.number = number
        self.delivery = delivery
        self.reads = reads
        self.layers = [Layer()]  # the turn's own writes, then those of each open transaction()
        self.final: Layer | None = None  # of these, what only the turn's last commit may carry
        self.effects: Effects | None = None  # what it did to sockets since its last commit
        self.over = False
        self.broken: SteadError | None = None  # why it was ended from outside
        self.saved = False  # part of it is already committed: it called out or synced
        self.sql_begun = False  # it has changed, or may have, what the open database holds
        self.sql_sealed = False  # and the changed pages are in its layer
        self.deadline_s = 0.0
        self.calls: set[Delivery] | None = None  # what it waits for in other actors
        self.nest: Nest | None = None  # events that came back along its call chain, while there are any

    @property
    def chain(self) -> Chain:
        return (*self.delivery.event.chain, TurnRef(self.activation.actor, self.number))

    @property
    def layer(self) -> Layer:
        return self.layers[-1]

    def hold_back(self) -> Layer:
        """Take what only the last commit may carry out of the writes, unless the turn wrote something else there since."""
        layer, held = self.layers[0], Layer()
        if self.final is None:
            return held
        for (key, value), (name, due_ms) in zip(self.final.writes.items(), self.final.alarms.items(), strict=True):
            if key in layer.writes and layer.writes[key] == value:
                held.writes[key], held.alarms[name] = value, due_ms
                del layer.writes[key], layer.alarms[name]
        return held

    def effect(self) -> Effects:
        """Where what it does to sockets collects."""
        effects = self.effects
        if effects is None:
            effects = self.effects = Effects(len(self.layers) - 1)
        return effects

    def call(self, delivery: Delivery, reply: asyncio.Future[Any]) -> None:
        """Wait for an event in another actor, until its reply comes."""
        calls = self.calls
        if calls is None:
            calls = self.calls = set()
        calls.add(delivery)
        reply.add_done_callback(lambda _: calls.discard(delivery))

    def check(self, what: str, *, writes: bool = False) -> None:
        """Raise unless the turn may still do `what`, here: another task of it may have a transaction open."""
        if self.over:
            if self.broken is not None:
                raise self.broken
            raise Invalid(
                f"{what} after its turn has ended; work that outlives a turn belongs in ctx.spawn() and enters with ctx.turn()"
            )
        if writes and self.reads:
            raise Invalid(f"{what} writes, and a method marked @reads may not; remove @reads")
        innermost = self.layers[-1] if len(self.layers) > 1 else None
        if TRANSACTION.get() is not innermost:
            raise Invalid(f"{what} {_OUTLIVED if innermost is None else _BESIDE}")

    def check_may_leave(self) -> None:
        """Raise unless a call to another unit may go out now."""
        self.check("a call to another unit")
        if len(self.layers) > 1:
            raise Invalid(
                "a call to another unit inside storage.transaction() would show others what may yet roll back; "
                "make the call before or after it"
            )


def acting(actor: ActorId, what: str) -> Turn | None:
    """The turn that the running code belongs to, None outside turns. Raises `Invalid` if it is over or another actor's."""
    turn = CURRENT.get()
    if turn is None:
        return None
    if turn.activation.actor != actor:
        raise Invalid(f"{what} of {actor} in a turn of {turn.activation.actor}; call a method of {actor} that does it")
    turn.check(what)
    return turn
