"""An actor in memory: its mailbox, its turns, and the gate its answers leave by.

**Turns.** Events wait in the mailbox and run one at a time, in the order they came; those that only read run beside each other.
The task that ends a turn goes on with the next event, so a busy actor costs no task per event. A turn's end seals it: what it
wrote becomes part of the entries at once and is submitted as one commit, and the next turn starts while the disk still works.

**Failure.** A turn that raises drops its writes; if there were any (or a durable attribute changed) the instance goes too, because
its memory may have moved ahead. A turn ended from outside (time limit, abort, lost commit) is *broken*: it is answered at once,
whatever its code still does has no effect, and the next event gets a new instance. A lost commit resets the whole activation:
the next event claims the actor anew.

**Nesting.** An event whose call chain already holds a turn of this actor runs inside that turn, at once. The outer turn's writes
were committed when it called out, so each of the two rolls back alone; while the inner one runs, the outer one's storage waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from stead.clock import Clock
from stead.errors import Aborted, Deadlock, DurabilityLost, EngineFailed, Invalid, Overloaded, SteadError, TurnTimeout
from stead.events import AlarmDue, Chain
from stead.ids import ActorId, Chance
from stead.logic.waiting import find_circle
from stead.runtime.alarms import ActorAlarms
from stead.runtime.attributes import Attributes
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committer
from stead.runtime.context import Context
from stead.runtime.failures import carried
from stead.runtime.gate import Gate
from stead.runtime.instance import Instance
from stead.runtime.mailbox import Mailbox
from stead.runtime.sql import ActorSql
from stead.runtime.storage import ActorStorage
from stead.runtime.tasks import Tasks
from stead.runtime.turn import CURRENT, AlarmFailed, Delivery, Turn
from stead.storage.contract import Commit, Engine
from stead.storage.entries import Entries, Layer

ACTOR_BYTES_MAX = 10 * 1024**3
ACTIVATION_BYTES = 4096  # what an activation weighs beside its entries and its SQL: see docs/limitations.md
RETRY_AFTER_S = 1.0  # told to who is refused by a full mailbox

T = TypeVar("T")
RAISED = (Exception, asyncio.CancelledError, SystemExit, GeneratorExit)  # all that the application's code may end with
INTERNAL = (DurabilityLost, EngineFailed)  # not the application's fault: such a run of an alarm does not count

log = logging.getLogger("stead")


class TurnBroken(Exception):
    """The turn was ended from outside, and who ended it has answered: control flow, never seen by users."""


class Home(Protocol):
    """The node's part that an activation works with."""

    engine: Engine
    clock: Clock
    chance: Chance
    committer: Committer
    tasks: Tasks
    env: Any
    turns: int

    def turn_started(self, turn: Turn) -> None: ...
    def busy(self, activation: Activation) -> None: ...
    def idle(self, activation: Activation) -> None: ...
    def alarms_committed(self, commit: Commit) -> None: ...


class Activation:
    """One actor in memory."""

    def __init__(self, actor: ActorId, actor_class: ActorClass, home: Home) -> None:
        self.actor = actor
        self.actor_class = actor_class
        self._home = home
        self.mailbox = Mailbox()
        self.running: dict[int, Turn] = {}
        self.spawned: set[asyncio.Task[Any]] = set()
        self._epoch = 0
        self._entries: Entries | None = None
        self._instance: Instance | None = None
        self._stale = False  # the instance may be ahead of storage: replace it before the next event
        self.gate = Gate(0)
        self.size_bytes = ACTIVATION_BYTES  # an estimate of the memory it holds
        self.alarms = ActorAlarms(self, home.clock, home.chance, lambda: actor_class.alarmed)
        self.storage = ActorStorage(self)
        self.sql = ActorSql(self, home.clock)
        self._members = {
            "id": actor,
            "env": home.env,
            "storage": self.storage,
            "sql": self.sql,
            "alarms": self.alarms,
        }

    # -- what the node asks ------------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return self.mailbox.is_idle and not self.spawned and self.gate.is_open

    @property
    def hibernate_after_s(self) -> float:
        return self.actor_class.hibernate_after_s

    def spawn_ended(self, task: asyncio.Task[Any]) -> None:
        self.spawned.discard(task)
        if self.is_idle:
            self._home.idle(self)

    def accept(self, delivery: Delivery) -> None:
        """Queue an event, or run it at once inside the turn that waits for it."""
        chain = delivery.event.chain
        if chain:
            outer = self._outer(chain)
            if outer is not None:
                self._nest(outer, delivery)
                return
            waits = self.mailbox.exclusive or self.mailbox.waiting or not delivery.shared
            if waits and (circle := self._circle(chain)) is not None:
                delivery.release(None, circle)
                return
        waiting = self.mailbox.waiting
        if len(waiting) >= self.actor_class.mailbox_events_max:
            delivery.release(None, self._overloaded(len(waiting)))
            return
        delivery.waiting_at = self
        waiting.append(delivery)
        self._pump()

    def _overloaded(self, waiting: int) -> Overloaded:
        return Overloaded(f"{self.actor} has {waiting} events waiting; try again later", RETRY_AFTER_S)

    async def leave(self) -> None:
        """Give the actor up: drop the instance, close its SQL and release the claim. Only when it is idle."""
        assert self.is_idle, f"{self.actor} is not idle"
        epoch = self._epoch
        self._forget()
        if epoch:
            await self._home.engine.release(self.actor, epoch)

    def reset(self, error: SteadError) -> None:
        """End every turn with `error` and drop the instance; the next event starts from what is committed or submitted."""
        for turn in list(self.running.values()):
            self.break_turn(turn, error)
        for task in list(self.spawned):
            task.cancel()
        self._drop_instance()

    # -- the mailbox -------------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while (delivery := self._take()) is not None:
            work = self._work(delivery)
            delivery.task = self._home.tasks.start_worker(work)

    def _take(self) -> Delivery | None:
        return self.mailbox.take(alone=self._instance is None or self._stale)

    async def _work(self, delivery: Delivery) -> None:
        """Run an event, and then those that may run after it; others may run beside them meanwhile."""
        task = delivery.task
        assert task is not None
        self._home.busy(self)
        following: Delivery | None = delivery
        while following is not None:
            following.task = task
            if not await self._deliver(following):
                break  # who broke the turn went on; by now the actor may even have left memory
            self.mailbox.end()
            following = self._take()
            if self.mailbox.waiting:
                self._pump()
        else:
            if self.is_idle:
                self._home.idle(self)
        self._home.tasks.end_worker(task)

    # -- one turn ----------------------------------------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery) -> bool:
        """Run an event to its end and hand its answer to the gate. False if the turn was broken: then who broke it went on."""
        if self._instance is None and not self.mailbox.exclusive:  # a reset came after it was taken to run beside others
            self.mailbox.waiting.appendleft(delivery)
            return True
        event = delivery.event
        try:
            await self._prepare(delivery)
            turn = self._turn(delivery)
            if isinstance(event, AlarmFailed):
                await self._execute(turn, self.alarms.fail(turn, event.due, event.error))
                value: Any = None
            else:
                assert self._instance is not None
                value = await self._execute(turn, self._instance.handle(turn, self.alarms))
        except TurnBroken:
            return False
        except RAISED as exc:
            self._answer(delivery, None, exc)
        else:
            self._answer(delivery, value, None)
        return True

    def _turn(self, delivery: Delivery) -> Turn:
        self._home.turns += 1
        return Turn(self, self._home.turns, delivery, delivery.shared)

    def _answer(self, delivery: Delivery, value: Any, error: BaseException | None) -> None:
        event = delivery.event
        if isinstance(event, AlarmDue) and error is not None and not isinstance(error, INTERNAL):
            self.mailbox.waiting.appendleft(
                Delivery(AlarmFailed(event, error), delivery.reply)
            )  # before anything else of this actor
            return
        self.gate.release(delivery, value, None if error is None else carried(error, f"{self.actor}"))

    async def _prepare(self, delivery: Delivery) -> None:
        """Load the actor and make its instance where needed."""
        if self._entries is None:
            await self._load()
        if self._stale and self.mailbox.exclusive:
            self._drop_instance()
        if self._instance is None and not isinstance(delivery.event, AlarmFailed):
            await self._construct(delivery)

    async def _load(self) -> None:
        claim = await self._home.engine.claim(self.actor)
        self._epoch = claim.epoch
        self._entries = Entries(self.actor, claim, self._home.engine)
        self.gate = Gate(claim.seq)
        self._weigh()

    def _weigh(self) -> None:
        entries = self._entries
        self.size_bytes = ACTIVATION_BYTES + (0 if entries is None else entries.cached_bytes) + self.sql.memory_bytes

    async def _construct(self, delivery: Delivery) -> None:
        members = {**self._members, "ctx": Context(self, self._home.tasks)}
        instance = Instance(self.actor_class, members, await self._stored_attributes(()))
        self._instance = instance
        if self.actor_class.starts:
            try:
                await self._execute(self._turn(delivery.beforehand()), instance.object.on_start())
            except RAISED:
                if self._instance is instance:
                    self._drop_instance()
                raise

    async def _execute(self, turn: Turn, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` as `turn` and seal it; roll it back if it raises. Raises `TurnBroken` if it was ended from outside."""
        self.running[turn.number] = turn
        turn.delivery.turn = turn
        CURRENT.set(turn)
        self._home.turn_started(turn)
        try:
            value = await work
            while turn.inner_idle is not None:
                await turn.inner_idle
            if turn.reads:
                self._check_read(turn)
            else:
                await self.seal(turn, ends=True)
            return value
        except RAISED as exc:
            if turn.over:
                raise TurnBroken from exc
            await self._roll_back(turn)
            self._note(turn, exc)
            raise
        finally:
            CURRENT.set(None)
            self.running.pop(turn.number, None)
            turn.over = True

    def _check_read(self, turn: Turn) -> None:
        """A turn that may not write has not."""
        turn.check("a reply")
        attributes = self._attributes
        if attributes is not None and attributes.have_changed():
            raise Invalid(f"a method marked @reads changed a durable attribute of {self.actor}; remove @reads")

    async def seal(self, turn: Turn, *, ends: bool = False) -> None:
        """Make what the turn wrote so far one commit and submit it. Raises `Invalid` for what cannot be stored."""
        if turn.reads:
            self._check_read(turn)
            return
        turn.check("a commit")
        if len(turn.layers) > 1:
            raise Invalid("a storage.transaction() is still open; leave its block before the turn ends")
        layer = turn.layers[0]
        if self._attributes is not None:
            self._attributes.collect(layer)
        self.sql.commit(turn)
        held_back = Layer() if ends else turn.hold_back()
        if not layer:
            turn.layers = [held_back]
            return
        entries = self.entries
        size_bytes = await entries.size_after(layer)
        if size_bytes > ACTOR_BYTES_MAX:
            raise Invalid(f"{self.actor} would have {size_bytes:,} bytes; the limit is {ACTOR_BYTES_MAX:,}")
        turn.check("a commit")
        turn.layers = [held_back]
        turn.saved, turn.sql_sealed = True, False
        gate = self.gate
        gate.submitted += 1
        entries.apply(layer, size_bytes, gate.submitted)
        self._weigh()
        now_ms = self._home.clock.now_ms()
        commit = Commit(self.actor, self._epoch, gate.submitted, layer.writes, layer.alarms, size_bytes, now_ms, layer.erased)
        self._home.committer.submit(commit, self)

    async def _roll_back(self, turn: Turn) -> None:
        """Leave no trace of what the turn did since its last commit."""
        attributes = self._attributes
        wrote = any(turn.layers) or turn.sql_begun or (attributes is not None and attributes.have_changed())
        self.sql.roll_back(turn)
        turn.layers = [Layer()]
        if not wrote:
            return
        self._stale = True
        if attributes is not None:  # the outer turn of a nested one, or reads beside this one, go on with this instance
            attributes.reload(await self._stored_attributes(()))

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
        if turn.inner_turn is not None:
            self.break_turn(turn.inner_turn, error)
        while turn.inner:
            turn.inner.popleft().release(None, error)
        turn.over, turn.broken = True, error
        self.running.pop(turn.number, None)
        self.sql.roll_back(turn)
        turn.layers = [Layer()]
        self._stale = True
        if turn.delivery.task is not None:
            turn.delivery.task.cancel()
        outer = self._outer(turn.delivery.event.chain)
        self._answer(turn.delivery, None, error)
        if outer is None:
            self.mailbox.end()
            self._pump()
            if self.is_idle:
                self._home.idle(self)

    def time_out(self, turn: Turn) -> None:
        limit_s = self.actor_class.turn_limit_s
        self.break_turn(turn, TurnTimeout(f"a turn of {self.actor} was over its limit of {limit_s:g} s and was rolled back"))

    def abort(self, reason: str) -> Aborted:
        """Reset the actor and return the error for whoever asked."""
        error = Aborted(f"{self.actor} was aborted{': ' if reason else ''}{reason}")
        self.reset(error)
        return error

    # -- nested turns --------------------------------------------------------------------------------------------------------------

    def _outer(self, chain: Chain) -> Turn | None:
        """The innermost running turn of this actor that waits for an event with this chain."""
        for ref in reversed(chain):
            if ref.actor == self.actor and (turn := self.running.get(ref.number)) is not None:
                return turn
        return None

    def _nest(self, outer: Turn, delivery: Delivery) -> None:
        if outer.reads and not delivery.shared:
            delivery.release(
                None, Invalid(f"a @reads method of {self.actor} called out, and the call came back to write; remove @reads")
            )
        elif len(outer.layers) > 1:
            delivery.release(None, Invalid(f"a call came back to {self.actor} while its storage.transaction() is open"))
        elif len(outer.inner) >= self.actor_class.mailbox_events_max:
            delivery.release(None, self._overloaded(len(outer.inner)))
        else:
            delivery.waiting_in = outer
            outer.inner.append(delivery)
            if outer.inner_idle is None:
                outer.inner_idle = asyncio.get_running_loop().create_future()
                outer.inner_task = self._home.tasks.start(self._work_inside(outer))

    async def _work_inside(self, outer: Turn) -> None:
        """Run what came back to `outer`, one after the other."""
        while outer.inner and not outer.over:
            delivery = outer.inner.popleft()
            delivery.task = outer.inner_task
            turn = outer.inner_turn = self._turn(delivery)
            try:
                await self.seal(outer)
                assert self._instance is not None
                value = await self._execute(turn, self._instance.handle(turn, self.alarms))
            except TurnBroken:
                continue
            except RAISED as exc:
                self._answer(delivery, None, exc)
            else:
                self._answer(delivery, value, None)
        outer.inner_turn = None
        idle, outer.inner_idle = outer.inner_idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    def _circle(self, chain: Chain) -> Deadlock | None:
        """The error for an event that this actor can only handle after the event's own sender has ended."""
        numbers = {ref.number for ref in chain}
        path = find_circle(self.running.values(), lambda turn: turn.number in numbers, _waits_for)
        if path is None:
            return None
        names = [str(chain[-1].actor), *(str(turn.activation.actor) for turn in path)]
        return Deadlock(f"these calls wait for each other: {' → '.join(names)}; nothing ran")

    # -- what a turn's storage asks ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> Entries:
        assert self._entries is not None, "the actor is not loaded"
        return self._entries

    @property
    def _attributes(self) -> Attributes | None:
        return None if self._instance is None else self._instance.attributes

    def ready(self, what: str, *, writes: bool = False) -> Turn | None:
        """The running turn if it need not wait for a nested one: `readable` or `writable` without suspending."""
        turn = self.current(what)
        turn.check(what, writes=writes)
        return turn if turn.inner_idle is None else None

    async def readable(self, what: str) -> Turn:
        """The running turn, once it may read."""
        turn = self.current(what)
        while turn.inner_idle is not None:
            await asyncio.shield(turn.inner_idle)
        turn.check(what)
        return turn

    async def writable(self, what: str) -> Turn:
        """The running turn, once it may write."""
        turn = await self.readable(what)
        turn.check(what, writes=True)
        return turn

    def current(self, what: str) -> Turn:
        """The turn of this actor that the running code belongs to. Raises `Invalid` outside one."""
        turn = CURRENT.get()
        if turn is None or turn.activation is not self:
            raise Invalid(f"{what} outside a turn of {self.actor}; enter one with `async with self.ctx.turn():`")
        return turn

    def begin(self, turn: Turn) -> None:
        """Open a transaction inside the turn."""
        if self._attributes is not None:
            self._attributes.collect(turn.layer)
        turn.layers.append(Layer())
        self.sql.begin_inner(turn)

    async def end(self, turn: Turn, *, keep: bool) -> None:
        """Close the innermost transaction: keep what it wrote as the turn's, or forget it."""
        attributes = self._attributes
        if keep and attributes is not None:
            attributes.collect(turn.layer)
        layer = turn.layers.pop()
        self.sql.end_inner(turn, keep=keep)
        if keep:
            turn.layer.merge(layer)
        elif attributes is not None:
            attributes.reload(await self._stored_attributes(turn.layers))

    def erase(self, turn: Turn) -> None:
        self.sql.erase(turn)
        turn.layer.erase()
        if self._attributes is not None:
            self._attributes.reload({})

    async def sync(self, turn: Turn) -> None:
        turn.check_may_leave()
        await self.seal(turn)
        await self.gate.wait_open()

    async def _stored_attributes(self, layers: Iterable[Layer]) -> dict[bytes, bytes]:
        return await self.entries.get_many(list(self.actor_class.attributes.keys.values()), tuple(layers))

    # -- what the committer reports ------------------------------------------------------------------------------------------------

    def commit_durable(self, commit: Commit) -> None:
        if commit.alarms or commit.erase:
            self._home.alarms_committed(commit)
        if commit.epoch != self._epoch:
            return
        self.entries.settle(commit.seq)
        self.gate.settle(commit.seq)
        if self.is_idle:
            self._home.idle(self)

    def commit_lost(self, commit: Commit, error: DurabilityLost) -> None:
        """Start again from what is durable: everything that saw the lost writes is answered with the error."""
        if commit.epoch != self._epoch:
            return
        log.error("%s", error)
        gate = self.gate
        self._forget()
        self.reset(error)
        gate.lose(error)
        if self.is_idle:
            self._home.idle(self)

    def _forget(self) -> None:
        self._epoch = 0
        self._entries = None
        self.gate = Gate(0)
        self._drop_instance()
        self.sql.close()

    def _drop_instance(self) -> None:
        self._instance = None
        self._stale = False


def _waits_for(turn: Turn) -> list[Turn]:
    """The turns that must end before `turn` can: those that run its calls, or stand before them."""
    waits: list[Turn] = []
    for call in turn.calls:
        if call.turn is not None:
            waits.append(call.turn)
        elif call.waiting_in is not None:
            waits.extend(() if call.waiting_in.inner_turn is None else (call.waiting_in.inner_turn,))
        elif call.waiting_at is not None:
            waits.extend(call.waiting_at.running.values())
    return waits
