"""The one door: every event for an actor or a service passes `deliver`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, cast

from stead.api import CURRENT_ENV
from stead.clock import Clock, sleep
from stead.errors import Ambiguous, DurabilityLost, Invalid, Unavailable
from stead.events import AlarmDue, Call, Event, Fetch, SocketEvent
from stead.ids import ActorId, Chance
from stead.runtime.activation import Activation
from stead.runtime.classes import ActorClass
from stead.runtime.commits import Committer
from stead.runtime.deadlines import Deadlines
from stead.runtime.env import Bindings
from stead.runtime.residency import Residency, Resident
from stead.runtime.room import Rooms
from stead.runtime.scheduler import AlarmScheduler
from stead.runtime.services import ServiceRunner
from stead.runtime.tasks import Tasks
from stead.runtime.turn import Delivery, Reply, Turn
from stead.storage.contract import Commit, Engine

_QUIET_POLL_S = 0.01  # while the node stops


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
        self.scheduler = AlarmScheduler(engine, clock, self.tasks, self._deliver_alarm)
        self.residency = Residency(resident_bytes_max, self._evict)
        self.deadlines = Deadlines()
        self.idle = self.residency.idle
        self.turns = 0
        self.closed = False

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
        if activation is None:
            actor_class = self._classes.get(target.unit)
            # What a running turn asks for still runs, and so does the end of a connection.
            refused = self.closed and caller is None and not isinstance(event, SocketEvent)
            if actor_class is None or refused:
                reply.set_exception(_refusal(target, refused))
                return
            activation = self.activations[target.text] = Activation(target, actor_class, self)
        actor_class = activation.actor_class
        delivery = Delivery(event, reply, _is_shared(event, actor_class))
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

    # -- leaving memory ------------------------------------------------------------------------------------------------------------

    def _evict(self, resident: Resident) -> None:
        self.evict(cast(Activation, resident))

    def evict(self, activation: Activation) -> None:
        """Drop an idle actor from memory."""
        self.residency.forget(activation)
        if self.activations.get(activation.actor.text) is activation:
            del self.activations[activation.actor.text]
        self.tasks.start(activation.leave())

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


def _is_shared(event: Event, actor_class: ActorClass) -> bool:
    if isinstance(event, Call):
        method = actor_class.methods.get(event.method)
        return method is not None and method.reads and event.origin is None and event.idempotency_key is None
    return isinstance(event, Fetch) and actor_class.fetch_reads


def _refusal(target: ActorId, stopping: bool) -> Exception:
    return Unavailable("the node is stopping; try again") if stopping else Invalid(f"there is no actor unit {target.unit!r}")
