"""Planted bugs: each breaks one promise of docs/promises.md on purpose, to show that the property which checks it can fail.

`with sabotaged("reply_before_commit"):` replaces product functions by wrong ones until the block ends. Production code knows
nothing of it. The wrong ones are bugs that someone could write: a check left out, two lines in the wrong order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import getattr_static
from typing import Any, cast
from urllib.parse import unquote

import msgspec

from stead import codec
from stead.errors import Invalid
from stead.events import AlarmDue, Call, Origin
from stead.ids import ActorId
from stead.runtime import alarms, stubs
from stead.runtime.activation import Activation
from stead.runtime.alarms import ActorAlarms, AlarmRow
from stead.runtime.answers import Answer, Kept
from stead.runtime.attributes import Attributes
from stead.runtime.chores import FORGET_ALARM
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committer
from stead.runtime.derived import DerivedKeys
from stead.runtime.gate import Gate
from stead.runtime.mailbox import Mailbox
from stead.runtime.methods import Parameter
from stead.runtime.outbox import Outbox
from stead.runtime.receipts import Receipts
from stead.runtime.scheduler import AlarmScheduler
from stead.runtime.sql import ActorSql
from stead.runtime.state import ActorState
from stead.runtime.stubs import Outgoing
from stead.runtime.turn import Delivery, Turn
from stead.storage.contract import BATCH_COMMITS_MAX, Claim, Commit
from stead.storage.entries import SEEN, Layer
from stead.storage.memory import NOBODYS, MemoryEngine, MemoryStore

Wrong = Callable[[Any], Any]
"""Makes the wrong function from the right one."""


@dataclass(frozen=True)
class Plant:
    """A planted bug: the promise it breaks, where it sits, and the wrong function."""

    promise: str
    owner: Any
    attribute: str
    wrong: Wrong


SABOTAGES: dict[str, Plant] = {}


@contextmanager
def sabotaged(bug: str | Plant) -> Iterator[None]:
    """Plant a bug, or that of a name in `SABOTAGES`, for the length of the block. Raises `Invalid` for an unknown name."""
    plant = SABOTAGES.get(bug) if isinstance(bug, str) else bug
    if plant is None:
        raise Invalid(f"there is no planted bug {bug!r}; there are: {', '.join(SABOTAGES)}")
    right = getattr_static(plant.owner, plant.attribute)
    setattr(plant.owner, plant.attribute, plant.wrong(right))
    try:
        yield
    finally:
        setattr(plant.owner, plant.attribute, right)


def planting(table: dict[str, Plant]) -> Callable[[str, Any, str], Callable[[Wrong], Wrong]]:
    """What enters wrong functions into `table`: `@plant("P2", Mailbox, "take")`."""

    def plant(promise: str, owner: Any, attribute: str) -> Callable[[Wrong], Wrong]:
        def add(wrong: Wrong) -> Wrong:
            table[wrong.__name__] = Plant(promise, owner, attribute, wrong)
            return wrong

        return add

    return plant


_plant = planting(SABOTAGES)


# -- P1: one owner ---------------------------------------------------------------------------------------------------------------


@_plant("P1", MemoryEngine, "claim")
def claim_keeps_epoch(right: Any) -> Any:
    """A claim of an actor that has an owner hands out the same epoch again."""

    async def claim(self: MemoryEngine, actor: ActorId) -> Claim:
        before = self.store.owners.get(actor.text, NOBODYS)
        made: Claim = await right(self, actor)
        if not before.owner:
            return made
        self.store.own(actor.text, before)
        return msgspec.structs.replace(made, epoch=before.epoch)

    return claim


@_plant("P1", MemoryEngine, "_follows")
def stale_epoch_commits(right: Any) -> Any:
    """The engine looks at the sequence number only."""

    def follows(self: MemoryEngine, commit: Commit) -> bool:
        stored = self.store.actors.get(commit.actor.text)
        return commit.seq == (0 if stored is None else stored.last.seq) + 1

    return follows


@_plant("P1", Activation, "commit_lost")
def fenced_commit_acknowledged(right: Any) -> Any:
    """A refused commit counts as done."""

    def commit_lost(self: Activation, commit: Commit, error: Exception) -> None:
        self.commit_durable(commit)

    return commit_lost


# -- P2: serial and in order -----------------------------------------------------------------------------------------------------


@_plant("P2", Mailbox, "take")
def two_turns_at_once(right: Any) -> Any:
    """The next event starts while one runs."""

    def take(self: Mailbox, *, alone: bool) -> Delivery | None:
        if alone or not self.waiting:
            taken: Delivery | None = right(self, alone=alone)
            return taken
        self.active += 1
        return self.waiting.popleft()

    return take


@_plant("P2", Mailbox, "take")
def reads_beside_writes(right: Any) -> Any:
    """An event that only reads starts while one that writes runs."""

    def take(self: Mailbox, *, alone: bool) -> Delivery | None:
        if self.waiting and self.waiting[0].shared and not alone:
            self.active += 1
            return self.waiting.popleft()
        taken: Delivery | None = right(self, alone=alone)
        return taken

    return take


@_plant("P2", Mailbox, "take")
def mailbox_order_swapped(right: Any) -> Any:
    """The event that came last runs first."""

    def take(self: Mailbox, *, alone: bool) -> Delivery | None:
        self.waiting.rotate(1)
        taken: Delivery | None = right(self, alone=alone)
        if taken is None:
            self.waiting.rotate(-1)
        return taken

    return take


@_plant("P2", Gate, "release")
def held_overtaken(right: Any) -> Any:
    """What leaves the gate goes ahead of what is held already."""

    def release(self: Gate, held: Any, value: Any = None, error: BaseException | None = None) -> None:
        if self.is_open and not self._held:
            held.release(value, error)
        else:
            self._held.appendleft((self.submitted, held, value, error))

    return release


# -- P3: whole or not at all -----------------------------------------------------------------------------------------------------


@_plant("P3", ActorState, "roll_back")
def rollback_forgotten(right: Any) -> Any:
    """A turn that raises commits what it wrote."""

    async def roll_back(self: ActorState, turn: Turn) -> bool:
        turn.layers = turn.layers[:1]
        await self.seal(turn)
        return True

    return roll_back


@_plant("P3", ActorState, "roll_back")
def instance_not_rebuilt(right: Any) -> Any:
    """After a turn that raised, the instance stays."""

    async def roll_back(self: ActorState, turn: Turn) -> bool:
        await right(self, turn)
        return False

    return roll_back


@_plant("P3", ActorSql, "roll_back")
def sql_rollback_forgotten(right: Any) -> Any:
    """A turn that raises leaves its rows in the open database."""

    def roll_back(self: ActorSql, turn: Turn) -> None:
        return

    return roll_back


@_plant("P3", Attributes, "collect")
def attributes_left_out(right: Any) -> Any:
    """Attributes are not part of the turn's commit."""

    def collect(self: Attributes, layer: Any) -> None:
        return

    return collect


# -- P4: nothing before its commit -----------------------------------------------------------------------------------------------


@_plant("P4", Gate, "release")
def reply_before_commit(right: Any) -> Any:
    """A reply leaves at once."""

    def release(self: Gate, held: Any, value: Any = None, error: BaseException | None = None) -> None:
        if isinstance(held, Delivery):
            held.release(value, error)
        else:
            right(self, held, value, error)

    return release


@_plant("P4", Gate, "release")
def call_before_commit(right: Any) -> Any:
    """A call to another actor leaves at once."""

    def release(self: Gate, held: Any, value: Any = None, error: BaseException | None = None) -> None:
        if isinstance(held, Outgoing):
            held.release(value, error)
        else:
            right(self, held, value, error)

    return release


@_plant("P4", Gate, "wait_open")
def sync_before_commit(right: Any) -> Any:
    """`sync()` and calls to services do not wait."""

    async def wait_open(self: Gate) -> None:  # noqa: RUF029 - it stands in for one that waits
        return

    return wait_open


# -- P5: what was acknowledged survives ------------------------------------------------------------------------------------------


@_plant("P5", Committer, "_flush")
def acknowledged_before_durable(right: Any) -> Any:
    """Owners hear of a commit before the engine does."""

    async def flush(self: Committer) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_COMMITS_MAX))]
            for commit, owner in batch:
                owner.commit_durable(commit)
            await self._engine.commit([commit for commit, _ in batch])
        self._flights -= 1

    return flush


@_plant("P5", MemoryStore, "apply")
def last_write_dropped(right: Any) -> Any:
    """Of a commit with several writes the last does not reach the disk."""

    def apply(self: MemoryStore, commit: Commit) -> None:
        kept = list(commit.writes.items())
        if len(kept) > 1:
            kept.pop()
        right(self, Commit(commit.actor, commit.epoch, commit.seq, dict(kept), commit.alarms, commit.size_bytes, commit.at_ms))

    return apply


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


# -- P7: leaving memory is invisible ---------------------------------------------------------------------------------------------


@_plant("P7", Activation, "is_idle")
def evicted_with_pending_commit(right: Any) -> Any:
    """An actor counts as idle while its commits are under way."""
    return property(lambda self: self.mailbox.is_idle and not self.spawned)


@_plant("P7", Attributes, "_changed")
def changes_in_place_unnoticed(right: Any) -> Any:
    """Only an assigned attribute counts as changed."""

    def changed(self: Attributes) -> list[tuple[str, bytes]]:
        return [(name, codec.encode(self._values[name])) for name, seen in self._seen.items() if self._values[name] is not seen]

    return changed


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


# -- P9: isolated ----------------------------------------------------------------------------------------------------------------


@_plant("P9", stubs, "named_id")
def ids_joined_without_separator(right: Any) -> Any:
    """The id's text is the unit and the name, side by side."""
    return lambda unit, name: ActorId(unit, name, f"{unit}{name}")


@_plant("P9", stubs, "named_id")
def names_unquoted(right: Any) -> Any:
    """Percent-encoding in a name is undone."""
    return lambda unit, name: right(unit, unquote(name))


@_plant("P9", codec, "decode")
def values_shared(right: Any) -> Any:
    """Equal bytes are decoded once, and everyone gets the same object."""
    known: dict[bytes, Any] = {}
    return lambda data: known[data] if data in known else known.setdefault(data, right(data))


# -- P10: bounded ----------------------------------------------------------------------------------------------------------------


@_plant("P10", ActorClass, "__init__")
def mailbox_unbounded(right: Any) -> Any:
    """Any number of events may wait."""

    def init(self: ActorClass, unit: str, cls: Any) -> None:
        right(self, unit, cls)
        self.mailbox_events_max = 1 << 62

    return init


@_plant("P10", codec, "encode")
def sizes_unchecked(right: Any) -> Any:
    """A value may have any size."""
    return lambda value, size_bytes_max=0: right(value, 1 << 62)


# -- P11: bad input --------------------------------------------------------------------------------------------------------------


@_plant("P11", Parameter, "convert")
def argument_check_skipped(right: Any) -> Any:
    """Arguments reach the method as they come."""
    return lambda self, value, where: value


@_plant("P11", codec, "_wire_other")
def unsupported_values_as_text(right: Any) -> Any:
    """What cannot be stored is stored as its text."""

    def wire_other(value: Any, depth: int) -> Any:
        try:
            return right(value, depth)
        except Invalid:
            return repr(value)

    return wire_other
