"""Planted bugs of turns, their writes and what may be seen of them, by the promise they break; see `sabotage.py`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from stead import codec
from stead.errors import Invalid
from stead.ids import ActorId
from stead.runtime import stubs
from stead.runtime.activation import Activation
from stead.runtime.attributes import Attributes
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committer
from stead.runtime.gate import Gate
from stead.runtime.mailbox import Mailbox
from stead.runtime.methods import Parameter
from stead.runtime.sql import ActorSql
from stead.runtime.state import ActorState
from stead.runtime.stubs import Outgoing
from stead.runtime.turn import Delivery, Turn
from stead.storage.contract import BATCH_COMMITS_MAX, Claim, Commit
from stead.storage.memory import NOBODYS, MemoryEngine, MemoryStore
from stead.testing.planting import Plant, planting

TURN_SABOTAGES: dict[str, Plant] = {}
_plant = planting(TURN_SABOTAGES)


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
