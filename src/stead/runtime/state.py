"""What an actor in memory knows of its durable self, and how a turn becomes a commit.

Turns collect their writes in layers and read through them. `seal` makes a layer part of the entries and submits it as one commit;
that is the only place where entries change, and from the moment that it takes the layer it does not suspend. `roll_back` drops the
layers. Whatever the user's code asks of its storage first asks here for the turn that it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from stead.clock import Clock
from stead.errors import Invalid
from stead.events import AlarmDue, Settled
from stead.ids import ActorId, Chance
from stead.runtime.alarms import ActorAlarms
from stead.runtime.attributes import Attributes
from stead.runtime.chores import WAKE_ALARM
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committed, Committer
from stead.runtime.gate import Gate, Lease, LeasedGate
from stead.runtime.outbox import Door, Leaving, Outbox
from stead.runtime.receipts import Receipts
from stead.runtime.sql import ActorSql
from stead.runtime.storage import ActorStorage
from stead.runtime.tasks import Tasks
from stead.runtime.turn import CURRENT, NOBODY, AlarmFailed, Delivery, SignalsAnswered, Turn
from stead.storage.contract import Commit, Engine
from stead.storage.entries import Entries, Layer

ACTOR_BYTES_MAX = 10 * 1024**3
ACTIVATION_BYTES = 5900  # what an activation weighs beside its entries and its SQL: measured, see docs/limitations.md


class Here(Door, Protocol):
    """This node's dispatcher, as an actor's state sees it."""

    engine: Engine
    clock: Clock
    chance: Chance
    committer: Committer
    tasks: Tasks
    lease: Lease | None  # None: nobody else can own actors


class Host(Committed, Protocol):
    """The activation, as its state sees it."""

    def accept(self, delivery: Delivery) -> None: ...


class ActorState:
    """The durable side of one activation. `host` hears how its commits ended."""

    def __init__(self, actor: ActorId, actor_class: ActorClass, here: Here, host: Host) -> None:
        self.actor = actor
        self._attribute_keys = list(actor_class.attributes.keys.values())
        self._here = here
        self._host = host
        self.epoch = 0  # 0: not loaded
        self.generation = 0  # of the claim
        self._entries: Entries | None = None
        self.attributes: Attributes | None = None  # of the instance, while there is one
        self.gate = Gate(0)
        self.size_bytes = ACTIVATION_BYTES  # an estimate of the memory it holds
        self.alarms = ActorAlarms(self, here.clock, here.chance, actor_class.handles_alarm)
        self.storage = ActorStorage(self)
        self.sql = ActorSql(self, here.clock)
        self._outbox: Outbox | None = None  # made when the first signal is sent

    # -- coming and going ----------------------------------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        return self._entries is not None

    @property
    def entries(self) -> Entries:
        assert self._entries is not None, "the actor is not loaded"
        return self._entries

    @property
    def has_peers(self) -> bool:
        """Whether another node may have had the actor before."""
        return self._here.lease is not None

    @property
    def outbox(self) -> Outbox:
        if self._outbox is None:
            here = self._here
            self._outbox = Outbox(self, here, here.clock, here.chance, here.tasks)
        return self._outbox

    @property
    def has_signals(self) -> bool:
        """Whether signals are under way that nobody has answered."""
        return self._outbox is not None and not self._outbox.is_idle

    @property
    def receipts(self) -> Receipts:
        return Receipts(self.entries, self._here.clock, self.generation)

    async def load(self) -> None:
        """Claim the actor and read it."""
        claim = await self._here.engine.claim(self.actor)
        self.epoch, self.generation = claim.epoch, claim.generation
        self._entries = Entries(self.actor, claim, self._here.engine)
        lease = self._here.lease
        self.gate = Gate(claim.seq) if lease is None else LeasedGate(claim.seq, lease)
        self._weigh()

    def _weigh(self) -> None:
        entries = self._entries
        self.size_bytes = ACTIVATION_BYTES + (0 if entries is None else entries.cached_bytes) + self.sql.memory_bytes

    def forget(self) -> None:
        """Know nothing of the actor any more; `load` begins anew."""
        self.epoch = 0
        self._entries = None
        self.attributes = None
        self.gate = Gate(0)
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self.sql.close()

    def settle(self, commit: Commit) -> bool:
        """A commit is durable. False if it was of an earlier claim."""
        if commit.epoch != self.epoch:
            return False
        self.entries.settle(commit.seq)
        self.gate.settle(commit.seq)
        return True

    def lose(self, commit: Commit) -> Gate | None:
        """A commit is lost, and so is all that is in memory. What waits at the old gate is the caller's to answer."""
        if commit.epoch != self.epoch:
            return None
        gate = self.gate
        self.forget()
        return gate

    # -- a turn's end --------------------------------------------------------------------------------------------------------------

    def check_read(self, turn: Turn) -> None:
        """A turn that may not write has not."""
        turn.check("a reply")
        if self.attributes is not None and self.attributes.have_changed():
            raise Invalid(f"a method marked @reads changed a durable attribute of {self.actor}; remove @reads")

    async def seal(self, turn: Turn, *, ends: bool = False) -> None:
        """Make what the turn wrote so far one commit and submit it. Raises `Invalid` for what cannot be stored."""
        if turn.reads:
            self.check_read(turn)
            if turn.effects is not None:
                self.let_out(turn)
            return
        while True:
            while turn.sql_begun and self.sql.may_wait:
                self._check_whole(turn)
                await self.sql.commit_patiently(turn)
            unlearned = self._collect(turn)
            if not unlearned:
                break
            await self.entries.learn(unlearned)
        layer = turn.layers[0]
        held_back = Layer() if ends else turn.hold_back()
        signals = [] if turn.effects is None else [held for held in turn.effects.held if isinstance(held, Leaving)]
        if signals:
            self.outbox.enclose(signals, layer, self.gate.submitted + 1)
        if layer:
            self._submit(layer)
            turn.saved, turn.sql_sealed = True, False
        if signals:
            self.outbox.submitted(signals)
        turn.layers = [held_back]
        if turn.effects is not None:
            self.let_out(turn)

    def let_out(self, turn: Turn) -> None:
        """Let what the turn did to sockets leave behind what was submitted."""
        effects, turn.effects = turn.effects, None
        assert effects is not None
        effects.seal()
        self.gate.release(effects)

    def _check_whole(self, turn: Turn) -> None:
        """Raise unless all that the turn wrote may be committed now."""
        if len(turn.layers) > 1:
            raise Invalid("a storage.transaction() is still open; leave its block before the turn ends")
        turn.check("a commit")

    def _collect(self, turn: Turn) -> list[bytes]:
        """Bring all that the turn changed into its layer. Returns the keys whose present size is not known."""
        self._check_whole(turn)
        layer = turn.layers[0]
        if self.attributes is not None:
            self.attributes.collect(layer)
        self.sql.commit(turn)
        return self.entries.unlearned(layer)

    def _submit(self, layer: Layer) -> None:
        entries, gate = self.entries, self.gate
        size_bytes = entries.size_after(layer)
        if size_bytes > ACTOR_BYTES_MAX:
            raise Invalid(f"{self.actor} would have {size_bytes:,} bytes; the limit is {ACTOR_BYTES_MAX:,}")
        gate.submitted += 1
        entries.apply(layer, size_bytes, gate.submitted)
        self._weigh()
        now_ms = self._here.clock.now_ms()
        commit = Commit(self.actor, self.epoch, gate.submitted, layer.writes, layer.alarms, size_bytes, now_ms, layer.erased)
        self._here.committer.submit(commit, self._host)

    async def roll_back(self, turn: Turn) -> bool:
        """Leave no trace of what the turn did since its last commit, but in plain attributes. False if it had done nothing."""
        attributes = self.attributes
        wrote = any(turn.layers) or turn.sql_begun or (attributes is not None and attributes.have_changed())
        if turn.effects is not None and turn.effects.has_changes:
            wrote = True
        self.drop_writes(turn)
        if wrote and attributes is not None:  # the outer turn of a nested one, or reads beside this one, go on with them
            attributes.reload(await self.stored_attributes())
        return wrote

    def drop_writes(self, turn: Turn) -> None:
        self.sql.roll_back(turn)
        turn.layers = [Layer()]
        turn.effects = None

    async def stored_attributes(self, layers: Iterable[Layer] = ()) -> dict[bytes, bytes]:
        return await self.entries.get_many(self._attribute_keys, tuple(layers))

    # -- chores: events that need no instance --------------------------------------------------------------------------------------

    async def do_chore(self, turn: Turn) -> None:
        match turn.delivery.event:
            case AlarmFailed(due=due, error=error):
                await self.alarms.fail(turn, due, error)
            case AlarmDue(name=name) if name == WAKE_ALARM:
                await self.outbox.wake(turn)
            case AlarmDue():
                await self.receipts.forget(turn)
            case SignalsAnswered():
                self.outbox.write_down(turn)
            case Settled(origin=origin):
                await self.receipts.settle(turn, origin)

    def settle_signals(self) -> None:
        self._host.accept(Delivery(SignalsAnswered(), NOBODY))

    # -- what the user's code asks -------------------------------------------------------------------------------------------------

    def ready(self, what: str, *, writes: bool = False) -> Turn | None:
        """The running turn if it need not wait for a nested one: `readable` or `writable` without suspending."""
        turn = self.current(what)
        turn.check(what, writes=writes)
        return turn if turn.nest is None else None

    async def readable(self, what: str) -> Turn:
        """The running turn, once it may read."""
        turn = self.current(what)
        while turn.nest is not None:
            await asyncio.shield(turn.nest.idle)
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
        if turn is None or turn.activation.state is not self:
            raise Invalid(f"{what} outside a turn of {self.actor}; enter one with `async with self.ctx.turn():`")
        return turn

    def begin(self, turn: Turn) -> Layer:
        """Open a transaction inside the turn."""
        if self.attributes is not None:
            self.attributes.collect(turn.layer)
        layer = Layer()
        turn.layers.append(layer)
        self.sql.begin_inner(turn)
        if turn.effects is not None:
            turn.effects.begin()
        return layer

    def keep(self, turn: Turn) -> None:
        """Close the innermost transaction, which is the running code's: what it wrote is the turn's."""
        turn.check("leaving a storage.transaction()")
        if self.attributes is not None:
            self.attributes.collect(turn.layer)
        layer = self._close(turn, keep=True)
        turn.layer.merge(layer)

    async def undo(self, turn: Turn, transaction: Layer) -> None:
        """Forget what a transaction wrote, and those that are still open inside it."""
        stored = await self.stored_attributes(turn.layers[: turn.layers.index(transaction)])
        while transaction in turn.layers:
            self._close(turn, keep=False)
        if self.attributes is not None and not turn.over:
            self.attributes.reload(stored)

    def _close(self, turn: Turn, *, keep: bool) -> Layer:
        layer = turn.layers.pop()
        self.sql.end_inner(turn, keep=keep)
        if turn.effects is not None:
            turn.effects.end(keep=keep)
        return layer

    async def erase(self, turn: Turn, what: str) -> None:
        """Erase what is the user's. What the actor owes others stays: its signals on their way, and its receipts."""
        while True:
            submitted = self.gate.submitted
            owed = await self.outbox.owed(turn.layers)
            owed.merge(await self.receipts.owed(turn.layers))
            await self.writable(what)
            if submitted == self.gate.submitted:
                break  # nothing of it has changed meanwhile
        self.sql.erase(turn)
        turn.layer.erase()
        turn.layer.merge(owed)
        if self.attributes is not None:
            self.attributes.reload({})

    async def sync(self, turn: Turn) -> None:
        turn.check_may_leave()
        await self.seal(turn)
        await self.gate.wait_open()
