"""Planted bugs of what happens after a turn: alarms, signals and answers to keys, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import wraps
from typing import Any, cast

from stead import codec
from stead.events import AlarmDue, Call, Origin
from stead.runtime import alarms
from stead.runtime.alarms import ActorAlarms, AlarmRow
from stead.runtime.answers import Answer, Kept
from stead.runtime.chores import FORGET_ALARM
from stead.runtime.derived import DerivedKeys
from stead.runtime.outbox import Outbox
from stead.runtime.receipts import Receipts
from stead.runtime.scheduler import AlarmScheduler
from stead.runtime.turn import Turn
from stead.storage.contract import Commit
from stead.storage.entries import SEEN, Layer
from stead.storage.memory import MemoryStore
from stead.testing.planting import Plant, planting

SIGNAL_SABOTAGES: dict[str, Plant] = {}
_plant = planting(SIGNAL_SABOTAGES)


# -- P6: alarms ------------------------------------------------------------------------------------------------------------------


@_plant("P6", ActorAlarms, "begin")
def alarm_settled_before_run(right: Any) -> Any:
    """The alarm's row is deleted, durably, before its handler runs."""

    async def begin(self: ActorAlarms, turn: Turn, event: AlarmDue) -> Any:
        info = await right(self, turn, event)
        turn.final = Layer()
        await turn.activation.state.seal(turn)
        return info

    return begin


@_plant("P6", AlarmScheduler, "start")
def alarms_only_in_memory(right: Any) -> Any:
    """A node that starts does not look for alarms that were set before."""

    def start(self: AlarmScheduler) -> None:
        return

    return start


@_plant("P6", MemoryStore, "apply")
def alarm_index_left_out(right: Any) -> Any:
    """A commit that changes an alarm's row does not change the index."""

    def apply(self: MemoryStore, commit: Commit) -> None:
        right(
            self, Commit(commit.actor, commit.epoch, commit.seq, commit.writes, {}, commit.size_bytes, commit.at_ms, commit.erase)
        )

    return apply


@_plant("P6", ActorAlarms, "fail")
def failures_not_counted(right: Any) -> Any:
    """A failed run is tried again as if it had been the first, for ever."""

    async def fail(self: ActorAlarms, turn: Turn, event: AlarmDue, error: BaseException) -> None:
        row = await self._row(turn, event.name)
        assert row is not None
        row.due_ms = self._clock.now_ms() + 2_000
        self._write(turn, event.name, row)

    return fail


@_plant("P6", ActorAlarms, "_write")
def dead_alarm_vanishes(right: Any) -> Any:
    """After its last run an alarm is deleted."""

    def write(self: ActorAlarms, turn: Turn, name: str, row: AlarmRow | None) -> None:
        right(self, turn, name, None if row is not None and row.dead else row)

    return write


@_plant("P6", alarms, "retry_delay_ms")
def retries_without_backoff(right: Any) -> Any:
    """Each retry comes after the same two seconds."""

    def retry_delay_ms(failures: int, fraction: float) -> int | None:
        return None if right(failures, fraction) is None else 2_000

    return retry_delay_ms


# -- P8: signals -----------------------------------------------------------------------------------------------------------------


@_plant("P8", Receipts, "_once_by_number")
def signals_without_receipt(right: Any) -> Any:
    """A signal that comes again runs again."""

    async def once(self: Receipts, turn: Turn, event: Call, origin: Origin, run: Any) -> bytes:
        return cast(bytes, await run(event))

    return once


@_plant("P8", Receipts, "_once_by_number")
def receipt_before_the_turn(right: Any) -> Any:
    """The receipt is committed on its own, before what it is for."""

    async def once(self: Receipts, turn: Turn, event: Call, origin: Origin, run: Any) -> bytes:
        async def nothing(event: Call) -> bytes:  # noqa: RUF029 - stands for a method
            return b""

        known = await self._seen(turn, SEEN + origin.sender.encode())
        if known is not None and (origin.number < known.floor or origin.number in known.numbers):
            return codec.encode(None)
        await right(self, turn, event, origin, nothing)
        await turn.activation.state.seal(turn)
        return cast(bytes, await run(event))

    return once


@_plant("P8", Outbox, "learn")
def signals_of_an_earlier_life_forgotten(right: Any) -> Any:
    """What a crash left in the outbox stays there."""

    async def learn(self: Outbox, turn: Turn) -> None:  # noqa: RUF029 - stands for one
        self._is_complete = True

    return learn


@_plant("P8", Outbox, "enclose")
def signals_in_memory_only(right: Any) -> Any:
    """Signals are not part of the commit."""

    def enclose(self: Outbox, signals: Any, layer: Layer, seq: int) -> None:
        right(self, signals, Layer(), seq)

    return enclose


@_plant("P8", Outbox, "owed")
def signals_erased_with_the_actor(right: Any) -> Any:
    """`delete_all()` takes the signals that are on their way."""

    async def owed(self: Outbox, layers: Sequence[Layer]) -> Layer:  # noqa: RUF029 - stands for one
        return Layer()

    return owed


@_plant("P8", Receipts, "owed")
def receipts_erased_with_the_actor(right: Any) -> Any:
    """`delete_all()` takes the memory of what came."""

    async def owed(self: Receipts, layers: Sequence[Layer]) -> Layer:  # noqa: RUF029 - stands for one
        return Layer()

    return owed


@_plant("P8", Receipts, "forget")
def results_never_forgotten(right: Any) -> Any:
    """The alarm that drops results drops none."""

    async def forget(self: Receipts, turn: Turn) -> None:  # noqa: RUF029 - stands for one
        turn.layer.alarms[FORGET_ALARM] = None

    return forget


@_plant("P8", Outbox, "send")
def signals_settled_when_sent(right: Any) -> Any:
    """A signal leaves the outbox when it goes into its target's mailbox, not when the target has written."""

    def send(self: Outbox, number: int, signal: Any) -> None:
        right(self, number, signal)
        self.arrived(number)

    return send


@_plant("P8", Receipts, "_once_by_key")
def results_not_kept(right: Any) -> Any:
    """A repeat with the same idempotency key runs again."""

    async def once(self: Receipts, turn: Turn, event: Call, key: str, run: Any) -> bytes:
        return cast(bytes, await run(event))

    return once


@_plant("P8", DerivedKeys, "next")
def derived_keys_are_new(right: Any) -> Any:
    """The calls of a request that is run again have other keys than before."""
    made = itertools.count()
    return lambda self, actor, method: f"{right(self, actor, method)}\0{next(made)}"


@_plant("P8", DerivedKeys, "next")
def derived_keys_meet(right: Any) -> Any:
    """The second call of a method has the key of the first."""
    return lambda self, actor, method: self._root


@_plant("P8", Answer, "answer")
def answers_forgotten(right: Any) -> Any:
    """A repeat is run again."""

    @wraps(right)
    async def answer(self: Answer, service: str, key: str, scope: dict[str, Any], body: bytes) -> Kept:
        await self.storage.delete("answer")
        return cast(Kept, await right(self, service, key, scope, body))

    return answer
