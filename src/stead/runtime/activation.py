"""An actor in memory: its mailbox and its turns. What it knows of its durable self, and how a turn commits, is in `state.py`; what
comes back to it from its own calls, in `nesting.py`.

**Turns.** Events wait in the mailbox and run one at a time, in the order they came; those that only read run beside each other.
The task that ends a turn goes on with the next event, so a busy actor costs no task per event. A turn's end seals it: what it
wrote becomes part of the entries at once and is submitted as one commit, and the next turn starts while the disk still works.

**Failure.** A turn that raises drops its writes; if there were any (or a durable attribute changed) the instance goes too, because
its memory may have moved ahead. A turn ended from outside (time limit, abort, lost commit) is *broken*: it is answered at once,
whatever its code still does has no effect, and the next event gets a new instance. A lost commit resets the whole activation:
the next event claims the actor anew.

**Leaving.** In a cluster an actor may be another node's: found out when it is claimed, decided when it is moved, or feared when the
node's lease ends. Then the events that did not run go back, in their order, to be sent to whoever has the actor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from stead.clock import sleep
from stead.errors import Aborted, Ambiguous, DurabilityLost, EngineFailed, Overloaded, SteadError, TurnTimeout, Unavailable
from stead.events import AlarmDue, SocketEvent
from stead.ids import ActorId
from stead.runtime import state
from stead.runtime.chores import is_chore
from stead.runtime.circles import circle
from stead.runtime.classes import ActorClass
from stead.runtime.context import Context
from stead.runtime.deadlines import Deadlines
from stead.runtime.failures import carried
from stead.runtime.gate import Gate
from stead.runtime.instance import Instance
from stead.runtime.mailbox import Mailbox
from stead.runtime.nesting import Nest, outer_turn, refusal
from stead.runtime.room import Room, Rooms
from stead.runtime.state import ActorState
from stead.runtime.turn import CURRENT, TRANSACTION, AlarmFailed, Delivery, Entry, SignalsAnswered, Turn, Warmed
from stead.storage.contract import Commit, OwnedElsewhere
from stead.storage.membership import LeaseLost

RETRY_AFTER_S = 1.0  # told to who is refused by a full mailbox

T = TypeVar("T")
RAISED = BaseException  # all that the application's code may end with: libraries derive errors of their own from it, too
INTERNAL = (DurabilityLost, EngineFailed)  # not the application's fault: such a run of an alarm does not count
_OWN = (AlarmFailed, Entry, SignalsAnswered, Warmed)  # events that an actor has of itself: they go nowhere else
_QUIET_POLL_S = 0.002  # while an actor leaves

log = logging.getLogger("stead")


class TurnBroken(Exception):
    """The turn was ended from outside, and who ended it has answered: control flow, never seen by users."""


class StateLost(Exception):
    """What was being read is not the actor's state any more: control flow, never seen by users."""


class Here(state.Here, Protocol):
    """This node's dispatcher, as an activation sees it."""

    env: Any
    rooms: Rooms
    deadlines: Deadlines
    turns: int

    def idle(self, activation: Activation) -> None: ...
    def alarms_committed(self, commit: Commit) -> None: ...
    async def claimed(self, activation: Activation) -> None:
        """The actor is this node's now: returns when its first turn may begin."""
        ...

    def not_ours(self, activation: Activation, owner: int) -> None:
        """Another node has the actor: `owner`, 0 if nobody knows who. The activation is over."""
        ...


class Activation:
    """One actor in memory."""

    def __init__(self, actor: ActorId, actor_class: ActorClass, here: Here) -> None:
        self.actor = actor
        self.actor_class = actor_class
        self.hibernate_after_s = actor_class.hibernate_after_s
        self._here = here
        self._deadline = here.deadlines.after(actor_class.turn_limit_s)
        self._events_max = actor_class.mailbox_events_max
        self._held: list[Delivery] | None = None  # what came since it began to leave
        self._preparing: Delivery | None = None  # for which the actor is being loaded
        self.turns = 0
        self.is_over = False  # it has left, and nothing of it may go on
        self.mailbox = Mailbox()
        self.running: dict[int, Turn] = {}
        self.spawned: set[asyncio.Task[Any]] = set()
        self._instance: Instance | None = None
        self._stale = False  # the instance may be ahead of storage: replace it before the next event
        self.auto_reply: tuple[str, str] | None = None
        self.state = own = ActorState(actor, actor_class, here, self)
        self._members = {"id": actor, "env": here.env, "storage": own.storage, "sql": own.sql, "alarms": own.alarms}

    # -- what the node asks ------------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether it may leave memory."""
        return self.is_quiet and not self.state.has_signals

    @property
    def is_quiet(self) -> bool:
        """Whether nothing would be cut off if the node stopped now: signals go on after the next start."""
        return self.state.gate.is_open and self.mailbox.is_idle and not self.spawned

    @property
    def is_leaving(self) -> bool:
        """Whether it is on its way to another node."""
        return self._held is not None

    @property
    def is_claimed(self) -> bool:
        """Whether the actor is this node's, as far as is known, and is to stay."""
        return self.state.is_loaded and not self.is_leaving and not self.is_over

    @property
    def unrun(self) -> list[Delivery]:
        """Every event that has not begun, in order, the one that the actor is being loaded for first."""
        preparing = () if self._preparing is None else (self._preparing,)
        return [*preparing, *self.mailbox.waiting, *(self._held or ())]

    @property
    def size_bytes(self) -> int:
        return self.state.size_bytes

    @property
    def gate(self) -> Gate:
        return self.state.gate

    @property
    def room(self) -> Room | None:
        """Its connections, if it has any."""
        return self._here.rooms.find(self.actor)

    def spawn_ended(self, task: asyncio.Task[Any]) -> None:
        self.spawned.discard(task)
        if self.is_idle:
            self._here.idle(self)

    def accept(self, delivery: Delivery) -> None:
        """Queue an event, or run it at once inside the turn that waits for it."""
        chain = delivery.event.chain
        if chain:
            outer = outer_turn(chain, self.actor, self.running)
            if outer is not None:
                self._nest(outer, delivery)
                return
            waits = self.mailbox.exclusive or self.mailbox.waiting or not delivery.shared
            if waits and (deadlock := circle(chain, self.running.values())) is not None:
                delivery.release(None, deadlock)
                return
        waiting = self.mailbox.waiting
        if len(waiting) >= self._events_max and not self._is_let_in(delivery):
            return
        delivery.waiting_at = self
        waiting.append(delivery)
        self._pump()

    def _is_let_in(self, delivery: Delivery) -> bool:
        """Whether an event takes its place in a mailbox that is full or closed; if not, it is held or refused here."""
        held, event = self._held, delivery.event
        if held is not None and not isinstance(event, _OWN):
            if len(held) < self.actor_class.mailbox_events_max or isinstance(event, SocketEvent):
                held.append(delivery)
            else:
                delivery.release(None, self._overloaded(len(held)))
            return False
        if self.is_over:
            delivery.release(None, self._has_left())
            return False
        if held is not None or isinstance(event, SocketEvent):
            return True
        delivery.release(None, self._overloaded(len(self.mailbox.waiting)))
        return False

    def _has_left(self) -> Unavailable:
        return Unavailable(f"{self.actor} has left this node; try again")

    def _overloaded(self, waiting: int) -> Overloaded:
        return Overloaded(f"{self.actor} has {waiting} events waiting; try again later", RETRY_AFTER_S)

    def leave(self) -> int:
        """Drop the instance and close its SQL. Returns the epoch of the claim that is left, 0 if there is none. Only when idle."""
        assert self.is_idle, f"{self.actor} is not idle"
        epoch = self.state.epoch
        self._forget()
        return epoch

    def reset(self, error: SteadError) -> None:
        """End every turn with `error` and drop the instance; the next event starts from what is committed or submitted."""
        for turn in list(self.running.values()):
            self.break_turn(turn, error)
        for task in list(self.spawned):
            task.cancel()
        self._drop_instance()

    # -- leaving for another node --------------------------------------------------------------------------------------------------

    async def depart(self, grace_s: float) -> int:
        """Hold what comes, and end what is here within `grace_s`; then `give_back` has what was held.

        Returns the epoch of the claim that is to be released, 0 if there is none.
        """
        assert self._held is None, f"{self.actor} is leaving already"
        self._held, self._events_max = [], 0
        clock = self._here.clock
        until_s = clock.elapsed_s() + grace_s
        while not (self.is_quiet or self.is_over) and clock.elapsed_s() < until_s:
            await sleep(_QUIET_POLL_S)
        if not (self.is_quiet or self.is_over):
            self._held = self._take_unrun()
            self.reset(DurabilityLost(f"{self.actor} moves to another node and this turn took too long; it was rolled back"))
        while not (self.state.gate.is_open or self.is_over):
            await sleep(_QUIET_POLL_S)
        if self.is_over:
            return 0
        epoch = self.state.epoch
        self.is_over = True
        self._forget()
        return epoch

    def give_up(self, error: SteadError) -> None:
        """End everything at once: what runs, and what waits for a commit, is answered with `error`."""
        gate = self.state.gate
        self._held, self._events_max, self.is_over = self._take_unrun(), 0, True
        self.reset(error)
        self._forget()
        gate.lose(error)

    def give_back(self) -> list[Delivery]:
        """End here for good. Returns the events of others that have not run, in order, those of connections too."""
        unrun = self._take_unrun()
        self._held, self._events_max, self.is_over = None, 0, True
        for delivery in unrun:
            if isinstance(delivery.event, _OWN):
                delivery.release(None, self._has_left())
        return [delivery for delivery in unrun if not isinstance(delivery.event, _OWN)]

    def _take_unrun(self) -> list[Delivery]:
        unrun = self.unrun
        self._preparing = None
        self.mailbox.waiting.clear()
        return unrun

    # -- the mailbox -------------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self.mailbox.waiting and (delivery := self._take()) is not None:
            work = self._work(delivery)
            delivery.task = self._here.tasks.start_worker(work)

    def _take(self) -> Delivery | None:
        return self.mailbox.take(alone=self._instance is None or self._stale)

    async def _work(self, delivery: Delivery) -> None:
        """Run an event, and then those that may run after it; others may run beside them meanwhile."""
        task = delivery.task
        assert task is not None
        try:
            following: Delivery | None = delivery
            while following is not None:
                following.task = task
                if not await self._deliver(following):
                    break  # who broke the turn went on; by now the actor may even have left memory
                self.mailbox.end()
                following = self._take() if self.mailbox.waiting else None
                self._pump()
            else:
                if self.is_idle:
                    self._here.idle(self)
        finally:  # whatever failed, so that it is not kept and is heard of
            self._here.tasks.end_worker(task)

    # -- one turn ----------------------------------------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery) -> bool:
        """Run an event to its end and hand its answer to the gate. False if the turn was broken: then who broke it went on."""
        if self._instance is None and not self.mailbox.exclusive:  # a reset came after it was taken to run beside others
            self.mailbox.waiting.appendleft(delivery)
            return True
        try:
            if self._instance is None or self._stale:
                self._preparing = delivery
                await self._prepare(delivery)
                self._preparing = None
            turn = self._turn(delivery)
            if is_chore(delivery.event):
                await self._execute(turn, self.state.do_chore(turn))
                value: Any = None
            else:
                assert self._instance is not None
                value = await self._execute(turn, self._instance.handle(turn, self.state.alarms))
        except TurnBroken:
            return False
        except (StateLost, OwnedElsewhere, LeaseLost) as exc:
            return self._put_back(exc)
        except RAISED as exc:
            if self.is_over:  # it could not be loaded, and whoever ended this has taken the event
                return False
            self._preparing = None
            self._answer(delivery, None, exc)
        else:
            self._answer(delivery, value, None)
        return True

    def _put_back(self, why: Exception) -> bool:
        """The actor could not be loaded: it is not this node's, or has to be loaded anew. Returns whether the mailbox goes on."""
        if self._preparing is None:  # whoever gave this activation up has the event
            return False
        if isinstance(why, StateLost) and not self.is_over:
            self.mailbox.waiting.appendleft(self._preparing)
            self._preparing = None
            return True
        self._here.not_ours(self, why.owner if isinstance(why, OwnedElsewhere) else 0)
        return False

    def _turn(self, delivery: Delivery) -> Turn:
        self._here.turns += 1
        self.turns += 1
        return Turn(self, self._here.turns, delivery, delivery.shared)

    def _answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        event = delivery.event
        if isinstance(event, AlarmDue) and error is not None and not isinstance(error, INTERNAL):
            self.mailbox.waiting.appendleft(
                Delivery(AlarmFailed(event, error), delivery.reply)
            )  # before anything else of this actor
            return
        self.state.gate.release(delivery, value, None if error is None else carried(error, f"{self.actor}"))

    async def _prepare(self, delivery: Delivery) -> None:
        """Load the actor and make its instance where needed."""
        if not self.state.is_loaded:
            await self.state.load()
            if not self.is_over:
                await self._here.claimed(self)
            if self.is_over or not self.state.is_loaded:
                raise StateLost
        if self._stale and self.mailbox.exclusive:
            self._drop_instance()
        if self._instance is None and not is_chore(delivery.event):
            await self._construct(delivery)

    async def _construct(self, delivery: Delivery) -> None:
        members = {**self._members, "ctx": Context(self, self._here.tasks, self._here.rooms)}
        epoch, stored = self.state.epoch, await self.state.stored_attributes()
        if self.state.epoch != epoch:
            raise StateLost
        instance = Instance(self.actor_class, members, stored)
        self._instance, self.state.attributes = instance, instance.attributes
        if self.actor_class.starts:
            self._preparing = None
            try:
                await self._execute(self._turn(delivery.beforehand()), instance.object.on_start())
            except RAISED:
                if self._instance is instance:
                    self._drop_instance()
                raise

    async def _execute(self, turn: Turn, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` as `turn` and seal it; roll it back if it raises. Raises `TurnBroken` if it was ended from outside."""
        self.running[turn.number] = turn
        turn.delivery.begin(turn)
        CURRENT.set(turn)
        TRANSACTION.set(None)
        self._deadline.watch(turn)
        try:
            value = await work
            while turn.nest is not None:
                await turn.nest.idle
            if turn.reads:
                self.state.check_read(turn)
                if turn.effects is not None:
                    self.state.let_out(turn)
            else:
                await self.state.seal(turn, ends=True)
            return value
        except RAISED as exc:
            if turn.over:
                raise TurnBroken from exc
            if await self.state.roll_back(turn):
                self._stale = True
            self._note(turn, exc)
            raise
        finally:
            CURRENT.set(None)
            self.running.pop(turn.number, None)
            turn.over = True
            turn.delivery.turn = None  # each would keep the other until the next garbage collection

    def _note(self, turn: Turn, error: BaseException) -> None:
        said = (
            "what it wrote before its last call to another unit or sync() stays committed, the rest"
            if turn.saved
            else "what it wrote"
        )
        error.add_note(f"in a turn of {self.actor}: {said} was rolled back")

    # -- turns ended from outside --------------------------------------------------------------------------------------------------

    def break_turn(self, turn: Turn, error: SteadError) -> None:
        """End a turn now: answer it with `error`, leave no trace, and go on with the next event."""
        if turn.over:
            return
        if (nest := turn.nest) is not None:
            if nest.turn is not None:
                self.break_turn(nest.turn, error)
            while nest.waiting:
                nest.waiting.popleft().release(None, error)
        turn.over, turn.broken, turn.delivery.turn = True, error, None
        self.running.pop(turn.number, None)
        self.state.drop_writes(turn)
        self._stale = True
        if turn.delivery.task is not None:
            turn.delivery.task.cancel()
        outer = outer_turn(turn.delivery.event.chain, self.actor, self.running)
        if isinstance(error, Ambiguous):  # nor is this the application's fault, which may raise it as well
            self.state.gate.release(turn.delivery, None, carried(error, f"{self.actor}"))
        else:
            self._answer(turn.delivery, None, error)
        if outer is None:
            self.mailbox.end()
            self._pump()
            if self.is_idle:
                self._here.idle(self)

    def time_out(self, turn: Turn) -> None:
        limit_s = self.actor_class.turn_limit_s
        self.break_turn(turn, TurnTimeout(f"a turn of {self.actor} was over its limit of {limit_s:g} s and was rolled back"))

    def abort(self, reason: str) -> Aborted:
        """Reset the actor and return the error for whoever asked."""
        error = Aborted(f"{self.actor} was aborted{': ' if reason else ''}{reason}")
        self.reset(error)
        return error

    # -- nested turns --------------------------------------------------------------------------------------------------------------

    def _nest(self, outer: Turn, delivery: Delivery) -> None:
        nest = outer.nest
        if (refused := refusal(outer, delivery)) is not None:
            delivery.release(None, refused)
        elif nest is not None and len(nest.waiting) >= self.actor_class.mailbox_events_max:
            delivery.release(None, self._overloaded(len(nest.waiting)))
        else:
            delivery.waiting_in = outer
            if nest is None:
                nest = outer.nest = Nest()
                nest.task = self._here.tasks.start(self._work_inside(outer, nest))
            nest.waiting.append(delivery)

    async def _work_inside(self, outer: Turn, nest: Nest) -> None:
        """Run what came back to `outer`, one after the other."""
        while nest.waiting and not outer.over:
            delivery = nest.waiting.popleft()
            delivery.task = nest.task
            turn = nest.turn = self._turn(delivery)
            try:
                await self.state.seal(outer)
                assert self._instance is not None
                value = await self._execute(turn, self._instance.handle(turn, self.state.alarms))
            except TurnBroken:
                continue
            except RAISED as exc:
                self._answer(delivery, None, exc)
            else:
                self._answer(delivery, value, None)
        nest.turn = outer.nest = None
        nest.end()

    # -- what the committer reports ------------------------------------------------------------------------------------------------

    def commit_durable(self, commit: Commit) -> None:
        if commit.alarms or commit.erase:
            self._here.alarms_committed(commit)
        if self.state.settle(commit) and self.is_idle:
            self._here.idle(self)

    def commit_lost(self, commit: Commit, error: SteadError) -> None:
        """Start again from what is durable: everything that saw the lost writes is answered with the error."""
        gate = self.state.lose(commit)
        if gate is None:
            return
        self._drop_instance()
        self.reset(error)
        gate.lose(error)
        log.error("%s", error)
        if self.is_idle:
            self._here.idle(self)

    def _forget(self) -> None:
        self._drop_instance()
        self.state.forget()

    def _drop_instance(self) -> None:
        self._instance = self.state.attributes = None
        self._stale = False
