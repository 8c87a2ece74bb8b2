"""A node's runtime: the application's classes at work over an engine."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from stead.api import Actor, Response, Service
from stead.clock import Clock
from stead.events import Event, Fetch, Handover
from stead.ids import ANSWERS_UNIT, ActorId, Chance
from stead.runtime.answers import Answer
from stead.runtime.classes import ActorClass
from stead.runtime.dispatcher import Dispatcher, MakeElsewhere
from stead.runtime.env import Bindings, Client, bind_units
from stead.runtime.parties import Parties
from stead.runtime.services import ServiceRunner
from stead.runtime.sockets import Receiver, Wire
from stead.runtime.stubs import ActorNamespace
from stead.storage.contract import Engine


@dataclass(frozen=True)
class Limits:
    """The runtime's bounds."""

    resident_bytes_max: int  # an estimate of what idle and busy actors hold; past it the longest idle ones leave
    stop_grace_s: float  # what running turns get to end in when the node stops


class Runtime:
    """Make it inside a running event loop.

    `variables` are what `env` has besides the units, `env` is the bindings as an outsider sees them, and `clients` make what
    stands in it for the namespaces of their units. `elsewhere` makes the way to the other nodes of a cluster.
    """

    def __init__(
        self,
        *,
        actors: Mapping[str, type[Actor]],
        services: Mapping[str, type[Service] | ASGIApp],
        clients: Mapping[str, Client],
        engine: Engine,
        clock: Clock,
        chance: Chance,
        variables: Mapping[str, object],
        service_variables: Mapping[str, Mapping[str, str]],
        limits: Limits,
        elsewhere: MakeElsewhere | None = None,
    ) -> None:
        self._limits = limits
        self.env = Bindings(clock)
        classes = {unit: ActorClass(unit, cls) for unit, cls in {**actors, ANSWERS_UNIT: Answer}.items()}
        self._dispatcher = Dispatcher(classes, engine, clock, chance, self.env, limits.resident_bytes_max, elsewhere)
        for name, value in variables.items():
            self.env.bind(name, value)
        door = self._dispatcher
        self._parties = Parties(classes, self.env, door.deliver)
        bind_units(
            self.env, classes, services, lambda actor_class: ActorNamespace(actor_class, door, engine, chance), door, clients
        )
        for unit, service in services.items():
            env = self.env.with_variables(service_variables.get(unit, {}))
            self._dispatcher.services[unit] = ServiceRunner(unit, service, env)

    async def start(self) -> None:
        """Start mounted applications and alarms."""
        for runner in self._dispatcher.services.values():
            await runner.start(self._dispatcher.tasks)
        self._dispatcher.scheduler.start()

    async def close(self) -> None:
        """Finish turns, commit, and stop every task. The engine stays open."""
        await self._dispatcher.drain(self._limits.stop_grace_s)
        for runner in self._dispatcher.services.values():
            await runner.close()
        await self._dispatcher.abandon()

    async def abandon(self) -> None:
        """Stop at once, as a crash would: what is not committed is lost."""
        await self._dispatcher.abandon()

    def deliver(self, target: ActorId | str, event: Event) -> Awaitable[Any]:
        """The one door: hand an event to an actor, or to a service by name."""
        return self._dispatcher.deliver(target, event)

    async def visit(self, actor: ActorId, event: Fetch, *, is_handshake: bool) -> Response:
        """What a public actor answers a client, its class's before-hook first: a `Handover` to a handshake that it lets in."""
        return await self._parties.visit(actor, event, is_handshake=is_handshake)

    def admit_socket(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if the client cannot be let in now."""
        self._dispatcher.admit_socket(handover)

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        """Give a client to its actor, in the same step that admitted it. Returns who receives what it sends."""
        return self._dispatcher.open_socket(handover, wire)

    def evict(self, actor: ActorId) -> bool:
        """Drop an idle actor from memory. False if it is busy and still there."""
        activation = self._dispatcher.activations.get(actor.text)
        if activation is not None and activation.is_idle:
            self._dispatcher.evict(activation)
        return actor.text not in self._dispatcher.activations

    def stats(self) -> dict[str, int]:
        """Counts since the start, and what is in memory now."""
        dispatcher = self._dispatcher
        return {
            "residents": len(dispatcher.activations),
            "resident_bytes": dispatcher.residency.size_bytes,
            "sockets": dispatcher.rooms.count(),
            "turns": dispatcher.turns_run,
            "commits": dispatcher.committer.commits,
            "flushes": dispatcher.committer.flushes,
        }
