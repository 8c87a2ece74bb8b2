"""The one door: every event for an actor or a service passes `deliver`.

In a cluster an actor that is not in memory here may be another node's: `Elsewhere` decides, and gives those events that are to run
here to `take_in`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from stead.api import CURRENT_ENV
from stead.clock import Clock, sleep
from stead.errors import Ambiguous, DurabilityLost, EngineFailed, Invalid, Unavailable
from stead.events import AlarmDue, Call, Event, Fetch, Handover, Settled, SocketEvent
from stead.ids import ActorId, Chance, parse_id
from stead.runtime.activation import Activation
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committer
from stead.runtime.deadlines import Deadlines
from stead.runtime.env import Bindings
from stead.runtime.gate import Lease, lease_lost
from stead.runtime.inbound import Rest
from stead.runtime.residency import Residency, Resident
from stead.runtime.room import Rooms
from stead.runtime.scheduler import AlarmScheduler
from stead.runtime.services import ServiceRunner
from stead.runtime.sockets import Receiver, Wire
from stead.runtime.tasks import Tasks
from stead.runtime.turn import Delivery, Reply, Turn, Warmed
from stead.storage.contract import Commit, Engine

_QUIET_POLL_S = 0.01  # while the node stops

log = logging.getLogger("stead")


class Elsewhere(Protocol):
    """The other nodes, as the dispatcher sees them."""

    @property
    def lease(self) -> Lease: ...
    def forward(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None:
        """An event for an actor that is not in memory here: `take_in`, or to the node that has it."""
        ...

    def is_run(self, unit: str) -> bool:
        """Whether a node that can be asked has the code of an actor's unit."""
        ...

    def returned(self, target: ActorId, deliveries: Sequence[Delivery], owner: int) -> None:
        """These events did not run here and go, in this order, to `owner`; 0: to whoever has the actor."""
        ...

    def dissolved(self, actor: ActorId, rests: Sequence[Rest], owner: int) -> None:
        """The actor is not this node's, or no longer: its connections go to `owner`; 0: to whoever has it."""
        ...

    async def gather(self, actor: ActorId, epoch: int) -> None:
        """The actor is this node's since `epoch`: bring its connections into its room, as far as they can be had soon."""
        ...

    def admit_socket(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if a client of this node cannot be let in now."""
        ...

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        """A client has connected to this node. Returns who gets what it sends."""
        ...


MakeElsewhere = Callable[["Dispatcher"], Elsewhere]


class Dispatcher:
    """Finds or makes the activation of an actor and hands events to it."""

    def __init__(
        self,
        classes: Mapping[str, ActorClass],
        engine: Engine,
        clock: Clock,
        chance: Chance,
        env: Bindings,
        resident_bytes_max: int,
        elsewhere: MakeElsewhere | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._classes = classes
        self.services: dict[str, ServiceRunner] = {}
        self.activations: dict[str, Activation] = {}
        self.rooms = Rooms(classes, self)
        self.engine = engine
        self.clock = clock
        self.chance = chance
        self.env = env
        self.tasks = Tasks()
        self.tasks.base.run(CURRENT_ENV.set, env)
        self.committer = Committer(engine, self.tasks)
        self.scheduler = AlarmScheduler(engine, clock, self.tasks, self._deliver_alarm, is_shared=elsewhere is not None)
        self.residency = Residency(resident_bytes_max, self._evict)
        self.deadlines = Deadlines()
        self.idle = self.residency.idle
        self.turns = 0
        self._first_turn = 0
        self.closed = False
        self._elsewhere = None if elsewhere is None else elsewhere(self)
        self.lease = None if self._elsewhere is None else self._elsewhere.lease
        self._kept: dict[str, int] = {}  # in a cluster, by id: the epochs of actors whose claim outlasts their hibernation

    @property
    def units(self) -> tuple[str, ...]:
        """The units whose actors this node can run, Stead's own among them."""
        return tuple(sorted(self._classes))

    def deliver(self, target: ActorId | str, event: Event) -> Awaitable[Any]:
        """Hand an event over; what comes back is its reply. The event is in the target's mailbox when this returns."""
        if isinstance(target, str):
            return self.serve(target, event)
        reply = self._loop.create_future()
        self.forward(target, event, reply, None)
        return reply

    def forward(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None:
        """`deliver`, with who is answered and the turn that waits for it."""
        activation = self.activations.get(target.text)
        if activation is not None:
            self._accept(activation, event, reply, caller)
        elif self._elsewhere is not None and (self.runs(target.unit) or self._elsewhere.is_run(target.unit)):
            self._elsewhere.forward(target, event, reply, caller)
        else:
            self.take_in(target, event, reply, caller)

    def take_in(self, target: ActorId, event: Event, reply: Reply, caller: Turn | None) -> None:
        """`forward` to this node, whoever has the actor."""
        activation = self.activations.get(target.text)
        if activation is None:
            actor_class = self._classes.get(target.unit)
            # What a running turn asks for still runs, and so does the end of a connection.
            refused = self.closed and caller is None and not isinstance(event, SocketEvent)
            if actor_class is None or refused:
                if not reply.done():
                    reply.set_exception(_refusal(target, refused))
                return
            activation = self._activate(target, actor_class)
        self._accept(activation, event, reply, caller)

    def _activate(self, target: ActorId, actor_class: ActorClass) -> Activation:
        activation = self.activations[target.text] = Activation(target, actor_class, self)
        self._kept.pop(target.text, None)
        return activation

    def _accept(self, activation: Activation, event: Event, reply: Reply, caller: Turn | None) -> None:
        delivery = Delivery(event, reply, _is_shared(event, activation.actor_class))
        if caller is not None:
            assert isinstance(reply, asyncio.Future)
            caller.call(delivery, reply)
        activation.accept(delivery)

    def serve(self, service: str, event: Event) -> Coroutine[Any, Any, Any]:
        """`deliver` to a service: its code runs in the task that awaits this. Raises `Invalid` if there is none of that name."""
        runner = self.services.get(service)
        if runner is None:
            raise Invalid(f"there is no service {service!r}")
        if isinstance(event, Fetch):
            return runner.fetch(event)
        assert isinstance(event, Call), "services get requests and calls only"
        return runner.call(event)

    # -- what activations ask ------------------------------------------------------------------------------------------------------

    def resident(self, actor: ActorId) -> Activation | None:
        return self.activations.get(actor.text)

    def alarms_committed(self, commit: Commit) -> None:
        self.scheduler.committed(commit)

    def not_ours(self, activation: Activation, owner: int) -> None:
        """Another node has the actor: what waits for it goes there."""
        assert self._elsewhere is not None, "an engine of one node knows no other owner"
        self._hand_over(activation, owner)

    async def claimed(self, activation: Activation) -> None:
        """The actor is this node's now: its connections come before its first turn."""
        if self._elsewhere is not None and activation.actor_class.socket_events:
            await self._elsewhere.gather(activation.actor, activation.state.epoch)

    def room_ended(self, actor: ActorId) -> None:
        epoch = self._kept.pop(actor.text, 0)
        if epoch:
            self.tasks.start(self._release(actor, epoch))

    # -- what the cluster asks -----------------------------------------------------------------------------------------------------

    def number_turns_from(self, number: int) -> None:
        """Count turns from here on, so that no two nodes give the same number to turns of one actor."""
        self.turns = self._first_turn = number

    @property
    def turns_run(self) -> int:
        return self.turns - self._first_turn

    def runs(self, unit: str) -> bool:
        """Whether this node has the code of an actor's unit."""
        return unit in self._classes

    def has(self, actor: ActorId) -> bool:
        """Whether an actor is this node's for sure: it is in memory, or its connections are here."""
        return actor.text in self.activations or actor.text in self._kept

    def owned(self) -> list[ActorId]:
        """The actors that this node has for sure."""
        return [*(activation.actor for activation in self.activations.values()), *map(parse_id, self._kept)]

    def turns_by_actor(self) -> dict[str, int]:
        """How many turns each actor that this node has for sure has had in memory, by id."""
        return {**dict.fromkeys(self._kept, 0), **{text: activation.turns for text, activation in self.activations.items()}}

    def may_move(self, actor: ActorId) -> bool:
        """Whether an actor of this node can go to another one without anything being cut off."""
        activation = self.activations.get(actor.text)
        return self.is_claimed(actor) and (activation is None or not activation.spawned)

    def is_repeatable(self, target: ActorId, event: Event) -> bool:
        """Whether it does no harm if an event runs twice."""
        if isinstance(event, Call) and (event.origin is not None or event.idempotency_key is not None):
            return True
        actor_class = self._classes.get(target.unit)
        return isinstance(event, AlarmDue | Settled) or (actor_class is not None and _is_shared(event, actor_class))

    def is_claimed(self, actor: ActorId) -> bool:
        """Whether an actor is this node's, as far as is known, and is to stay."""
        activation = self.activations.get(actor.text)
        return self._kept.get(actor.text, 0) > 0 if activation is None else activation.is_claimed

    async def warm(self, target: ActorId) -> None:
        """Make an actor this node's, and bring it into memory. Raises `Unavailable` if it is another node's after all."""
        actor_class = self._classes.get(target.unit)
        if actor_class is not None and not self.is_claimed(target):
            reply: asyncio.Future[None] = self._loop.create_future()
            activation = self.activations.get(target.text) or self._activate(target, actor_class)
            activation.accept(Delivery(Warmed(), reply))
            await reply

    async def depart(self, actor: ActorId, to: int, grace_s: float) -> bool:
        """Give an actor to another node. What comes meanwhile goes there, after the last commit here.

        False if it was leaving already, or had to be given up meanwhile; by now it has left.
        """
        assert self._elsewhere is not None
        kept_epoch = self._kept.get(actor.text, 0)
        if actor.text in self._kept:  # what its clients send meanwhile is to be held
            self._activate(actor, self._classes[actor.unit])
        activation = self.activations.get(actor.text)
        if activation is None:
            return True
        if activation.is_leaving:
            while self.activations.get(actor.text) is activation:
                await sleep(_QUIET_POLL_S)
            return False
        epoch = await activation.depart(grace_s) or kept_epoch
        if epoch:
            await self._release(actor, epoch)
        if self.activations.get(actor.text) is not activation:
            return False
        self._hand_over(activation, to)
        return True

    def give_up(self) -> None:
        """End every actor here at once: another node may have it. What did not run goes there, all else is answered `Ambiguous`."""
        assert self._elsewhere is not None
        activations = list(self.activations.values())
        self.activations.clear()
        self._kept.clear()
        for activation in activations:
            self._dissolve(activation.actor, activation.unrun, 0)  # before its turns are answered: what ran may not run again
            activation.give_up(lease_lost())
            self._remove(activation)
        for actor in self.rooms.actors():
            self._dissolve(actor, (), 0)
        for activation in activations:
            self._elsewhere.returned(activation.actor, _not_of_sockets(activation.give_back()), 0)

    def _hand_over(self, activation: Activation, owner: int) -> None:
        """An actor has left: its connections and what did not run follow it."""
        assert self._elsewhere is not None
        deliveries = activation.give_back()
        self._remove(activation)
        self._dissolve(activation.actor, deliveries, owner)
        self._elsewhere.returned(activation.actor, _not_of_sockets(deliveries), owner)

    def _dissolve(self, actor: ActorId, unrun: Iterable[Delivery], owner: int) -> None:
        assert self._elsewhere is not None
        self._elsewhere.dissolved(actor, self.rooms.dissolve(actor, unrun), owner)

    # -- leaving memory ------------------------------------------------------------------------------------------------------------

    def _evict(self, resident: Resident) -> None:
        self.evict(cast(Activation, resident))

    def evict(self, activation: Activation) -> None:
        """Drop an idle actor from memory. In a cluster one with connections stays this node's."""
        self._remove(activation)
        actor, epoch = activation.actor, activation.leave()
        if self._elsewhere is not None and activation.room is not None:
            self._kept[actor.text] = epoch
        elif epoch:
            self.tasks.start(self._release(actor, epoch))

    def _remove(self, activation: Activation) -> None:
        self.residency.forget(activation)
        if self.activations.get(activation.actor.text) is activation:
            del self.activations[activation.actor.text]

    async def _release(self, actor: ActorId, epoch: int) -> None:
        """Give a claim up, if the engine can be asked. If not, the actor is sent here when it is asked for, or the lease ends."""
        try:
            await self.engine.release(actor, epoch)
        except EngineFailed as exc:
            log.debug("the claim of %s could not be released: %s", actor, exc)

    # -- connections ---------------------------------------------------------------------------------------------------------------

    def admit_socket(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if the client cannot be let in now."""
        (self.rooms.admit if self._elsewhere is None else self._elsewhere.admit_socket)(handover)

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        """Give a client to its actor. Returns who gets what it sends."""
        return self.rooms.open(handover, wire) if self._elsewhere is None else self._elsewhere.open_socket(handover, wire)

    # -- the end -------------------------------------------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Take no more events from outside, let turns end for `grace_s` seconds, and commit what they wrote.

        Connections are closed once what they had sent is done.
        """
        self.closed = True
        self.scheduler.close()
        self.rooms.pause()
        deadline_s = self._loop.time() + grace_s
        await self._wait_quiet(deadline_s)
        self.rooms.close(1012, "the server is restarting")
        await self._wait_quiet(deadline_s)
        self._cut_off()
        while not self.committer.is_idle:
            await sleep(_QUIET_POLL_S)

    async def abandon(self) -> None:
        """Stop at once, as a crash would: what is not committed is lost."""
        self.closed = True
        self.scheduler.close()
        self.deadlines.close()
        self.residency.close()
        for activation in self._cut_off():
            activation.state.gate.lose(Ambiguous("the node has stopped before it knew whether this is durable"))
        await self.tasks.close()

    def _cut_off(self) -> list[Activation]:
        """End every turn, refuse what waits and what comes from now on. Returns the actors that were in memory."""
        self.rooms.cut_off()
        activations = list(self.activations.values())
        for activation in activations:
            while activation.mailbox.waiting:  # else the end of one turn would begin the next
                activation.mailbox.waiting.popleft().release(None, _refusal(activation.actor, True))
            activation.reset(DurabilityLost("the node stopped before this turn had ended; it was rolled back"))
            activation.state.sql.close()  # SQLite has what holds all of the node: the garbage collector does not see it there
        self.activations.clear()
        return activations

    async def _wait_quiet(self, until_s: float) -> None:
        while not self._is_quiet() and self._loop.time() < until_s:
            await sleep(_QUIET_POLL_S)

    def _is_quiet(self) -> bool:
        return self.committer.is_idle and all(activation.is_quiet for activation in self.activations.values())

    def _deliver_alarm(self, actor: ActorId, event: AlarmDue) -> asyncio.Future[None]:
        reply: asyncio.Future[None] = self._loop.create_future()
        self.forward(actor, event, reply, None)
        return reply


def _not_of_sockets(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Without the events of connections: those who send them know what has not run."""
    return [delivery for delivery in deliveries if not isinstance(delivery.event, SocketEvent)]


def _is_shared(event: Event, actor_class: ActorClass) -> bool:
    if isinstance(event, Call):
        method = actor_class.methods.get(event.method)
        return method is not None and method.reads and event.origin is None and event.idempotency_key is None
    return isinstance(event, Fetch) and actor_class.fetch_reads


def _refusal(target: ActorId, stopping: bool) -> Exception:
    return Unavailable("the node is stopping; try again") if stopping else Invalid(f"there is no actor unit {target.unit!r}")
