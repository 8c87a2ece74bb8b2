"""Planted bugs of what becomes of turns, writes, alarms and signals when their node dies or hands them over; see `sabotage.py`."""

from __future__ import annotations

from functools import wraps
from typing import Any

import msgspec

from stead import codec
from stead.bindings.task.actor import TaskActor
from stead.bindings.task.run import Trigger
from stead.clock import sleep
from stead.cluster.serving import Answering
from stead.errors import Ambiguous, DurabilityLost, SteadError
from stead.events import Call, Origin
from stead.ids import ActorId
from stead.runtime.activation import Activation
from stead.runtime.chores import WAKE_ALARM
from stead.runtime.commits import Committer
from stead.runtime.effects import Effects
from stead.runtime.gate import Gate, Held, LeasedGate
from stead.runtime.outbox import Leaving, Outbox
from stead.runtime.receipts import Receipts
from stead.runtime.scheduler import AlarmScheduler
from stead.runtime.state import ActorState
from stead.runtime.stubs import Outgoing
from stead.runtime.turn import Delivery, Turn
from stead.storage.contract import Claim, Commit
from stead.storage.memory import Ownership
from stead.storage.shared import SharedMemoryEngine
from stead.testing.planting import Plant, planting

CLUSTER_TURN_SABOTAGES: dict[str, Plant] = {}
_plant = planting(CLUSTER_TURN_SABOTAGES)


# -- P1: a failover that loses commits -------------------------------------------------------------------------------------------


@_plant("P1", SharedMemoryEngine, "_follows")
def failover_keeps_epochs(right: Any) -> Any:
    """What was claimed before a failover still commits after it."""

    def follows(self: SharedMemoryEngine, commit: Commit) -> bool:
        stored = self.store.actors.get(commit.actor.text)
        is_owner = self._ownership(commit.actor) == Ownership(self._owner, commit.epoch)
        return is_owner and commit.seq == (0 if stored is None else stored.last.seq) + 1

    return follows


# -- P3: whole or not at all -----------------------------------------------------------------------------------------------------


@_plant("P3", Activation, "commit_lost")
def unknown_outcome_is_undone(right: Any) -> Any:
    """A commit of which the database said nothing counts as not applied."""

    def commit_lost(self: Activation, commit: Commit, error: SteadError) -> None:
        right(self, commit, DurabilityLost(str(error)))

    return commit_lost


@_plant("P3", SharedMemoryEngine, "_follows")
def lost_commits_unnoticed(right: Any) -> Any:
    """The engine looks at owner and epoch only: what a failover has lost is not missed."""

    def follows(self: SharedMemoryEngine, commit: Commit) -> bool:
        return self._ownership(commit.actor) == Ownership(self._owner, commit.epoch)

    return follows


@_plant("P3", Committer, "_enqueue")
def commits_beside_each_other(right: Any) -> Any:
    """What follows a commit under way goes with the next batch, without waiting for it."""

    def enqueue(self: Committer, item: Any) -> None:
        self._queue.append(item)

    return enqueue


# -- P4: nothing before its commit -----------------------------------------------------------------------------------------------


def _early(right: Any, is_early: Any) -> Any:
    """A gate out of which some things go at once."""

    def release(self: Gate, held: Held, value: Any = None, error: BaseException | None = None) -> None:
        if is_early(held):
            held.release(value, error)
        else:
            right(self, held, value, error)

    return release


@_plant("P4", LeasedGate, "release")
def peers_answered_before_commit(right: Any) -> Any:
    """What another node has asked for is answered at once."""
    return _early(right, lambda held: isinstance(held, Delivery) and isinstance(held.reply, Answering))


@_plant("P4", LeasedGate, "release")
def calls_to_peers_before_commit(right: Any) -> Any:
    """A call to an actor that is not here leaves at once."""

    def is_early(held: Held) -> bool:
        return isinstance(held, Outgoing) and held.target.text not in held.caller.activation._here.activations  # type: ignore[attr-defined]

    return _early(right, is_early)


@_plant("P4", LeasedGate, "release")
def signals_before_commit(right: Any) -> Any:
    """A signal leaves at once."""
    return _early(right, lambda held: isinstance(held, Effects) and any(isinstance(one, Leaving) for one in held.held))


# -- P5: what was acknowledged survives ------------------------------------------------------------------------------------------


@_plant("P5", Activation, "commit_lost")
def unknown_outcome_is_durable(right: Any) -> Any:
    """A commit of which the database said nothing counts as applied."""

    def commit_lost(self: Activation, commit: Commit, error: SteadError) -> None:
        if isinstance(error, Ambiguous):
            self.commit_durable(commit)
        else:
            right(self, commit, error)

    return commit_lost


@_plant("P5", Gate, "lose")
def acknowledged_when_given_up(right: Any) -> Any:
    """When an actor is given up, what waits for its commits is answered as if they had come."""

    def lose(self: Gate, error: SteadError) -> None:
        if isinstance(error, Ambiguous):
            Gate.settle(self, self.submitted)
        right(self, error)

    return lose


# -- P6: alarms ------------------------------------------------------------------------------------------------------------------


@_plant("P6", SharedMemoryEngine, "_fires")
def alarms_of_the_dead_wait(right: Any) -> Any:
    """The alarms of an actor are its last owner's, alive or not."""

    def fires(self: SharedMemoryEngine, text: str, sharing: list[int]) -> bool:
        owner = self.store.owners[text].owner
        return owner == self._owner if owner else bool(right(self, text, sharing))

    return fires


@_plant("P6", SharedMemoryEngine, "_fires")
def orphans_fired_by_all(right: Any) -> Any:
    """Every node fires the alarms that have no owner."""

    def fires(self: SharedMemoryEngine, text: str, sharing: list[int]) -> bool:
        return self.store.live_owner(text) in {0, self._owner}

    return fires


@_plant("P6", SharedMemoryEngine, "renew")
def share_of_the_cut_off_waits(right: Any) -> Any:
    """A node that no other one reaches keeps its share of the alarms that have no owner."""

    async def renew(self: SharedMemoryEngine, *, is_cut_off: bool | None = None) -> Any:
        return await right(self)

    return renew


@_plant("P6", AlarmScheduler, "__init__")
def index_not_polled(right: Any) -> Any:
    """A node looks for alarms when it has set one, as if nobody else did."""

    def init(self: AlarmScheduler, *arguments: Any, is_shared: bool) -> None:
        right(self, *arguments)

    return init


@_plant("P6", Activation, "depart")
def runs_go_on_while_an_actor_moves(right: Any) -> Any:
    """The claim is released while a turn runs, which nobody ends."""

    async def depart(self: Activation, grace_s: float) -> int:
        if self.state.epoch and not self.state.gate.is_open:
            return int(await right(self, grace_s))
        self._held, self._events_max, self.is_over = [], 0, True
        return self.state.epoch

    return depart


# -- P7: moves are invisible -----------------------------------------------------------------------------------------------------


@_plant("P7", Activation, "depart")
def moved_before_its_commits(right: Any) -> Any:
    """The claim is released when the turns have ended, and their commits are still under way."""

    async def depart(self: Activation, grace_s: float) -> int:
        self._held, self._events_max = [], 0
        while self.running or self.mailbox.waiting:
            await sleep(0.002)
        self.is_over = True
        return self.state.epoch

    return depart


@_plant("P7", SharedMemoryEngine, "claim")
def old_entries_remembered(right: Any) -> Any:
    """Who claims an actor that it has had before does not read it again."""

    async def claim(self: SharedMemoryEngine, actor: ActorId) -> Claim:
        made: Claim = await right(self, actor)
        known: dict[str, Any] = self.__dict__.setdefault("known", {})
        return msgspec.structs.replace(made, entries=known.setdefault(actor.text, made.entries))

    return claim


# -- P8: once, or at least once --------------------------------------------------------------------------------------------------


@_plant("P8", Outbox, "wake")
def outbox_of_the_dead_stays(right: Any) -> Any:
    """The alarm of an outbox sends nothing that this node did not send before."""

    async def wake(self: Outbox, turn: Turn) -> None:  # noqa: RUF029 - stands for one
        turn.layer.alarms[WAKE_ALARM] = None

    return wake


@_plant("P8", Receipts, "_once_by_number")
def receipts_in_memory_only(right: Any) -> Any:
    """A node knows which signals it has had, and the next owner does not."""

    async def once(self: Receipts, turn: Turn, event: Call, origin: Origin, run: Any) -> bytes:
        seen = turn.activation.__dict__.setdefault("seen", set())
        if (origin.sender, origin.number) not in seen:
            await run(event)
            seen.add((origin.sender, origin.number))
        return codec.encode(None)

    return once


@_plant("P8", ActorState, "has_peers")
def late_copies_unexpected(right: Any) -> Any:
    """A target is told to forget a signal as soon as it has it, whoever sent it before."""
    return property(lambda self: False)


@_plant("P8", Receipts, "_is_comparable")
def signals_of_lost_histories(right: Any) -> Any:
    """Whoever sends a signal, and whoever gets it, it is compared with what is remembered."""
    return lambda self, origin: True


@_plant("P8", Outbox, "failed")
def signals_lost_on_the_way(right: Any) -> Any:
    """A signal whose line was lost counts as arrived."""

    def failed(self: Outbox, number: int, error: BaseException) -> None:
        if isinstance(error, Ambiguous):
            self.arrived(number)
        else:
            right(self, number, error)

    return failed


@_plant("P8", TaskActor, "begin")
def tick_of_the_dead_runs_again(right: Any) -> Any:
    """Nobody asks whether a tick has been run."""

    @wraps(right)
    async def begin(self: TaskActor, trigger: Any, scheduled_time: Any, is_retry: bool) -> Any:
        return await right(self, Trigger.MANUAL, scheduled_time, is_retry)

    return begin
