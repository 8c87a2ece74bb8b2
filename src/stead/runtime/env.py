"""The bindings of an application: every unit by its name in UPPER_SNAKE, variables as text, and a logger."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp

from stead.api import Actor, Service
from stead.clock import Clock
from stead.errors import Invalid
from stead.ids import binding_name
from stead.runtime.classes import ActorClass
from stead.runtime.logs import Logger
from stead.runtime.methods import method_table
from stead.runtime.stubs import ActorNamespace, Door, ServiceStub

Client = Callable[[Any, Any], Any]
"""Makes what is bound for a unit from the namespace of its actors and the bindings of the application."""


class UnknownBinding(Invalid, AttributeError):
    """No unit or variable has this name."""


class Bindings:
    """The implementation of `stead.Env`."""

    def __init__(self, clock: Clock) -> None:
        self.logger = Logger()
        self._clock = clock
        self._actors: dict[type, Any] = {}
        self._services: dict[type, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = sorted(key for key in vars(self) if not key.startswith("_"))
        near = difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean env.{near[0]}?" if near else f"there are: {', '.join(known)}"
        raise UnknownBinding(f"env has no {name!r}; {hint}")

    @property
    def mem(self) -> Any:
        """The kv cache that every application has."""
        return self.MEM

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def bind(self, name: str, value: Any, cls: type | None = None) -> None:
        """Make `value` reachable as `env.NAME`, and by its class."""
        vars(self)[name] = value
        if cls is not None:
            table = self._actors if issubclass(cls, Actor) else self._services
            table[cls] = None if cls in table else value  # None: two units share the class

    def actor(self, cls: type[Actor]) -> Any:
        return _by_class(self._actors, cls, "actor")

    def service(self, cls: type[Service]) -> Any:
        return _by_class(self._services, cls, "service")

    def with_variables(self, variables: Mapping[str, str]) -> Bindings:
        """The same bindings and more variables: those of one service."""
        if not variables:
            return self
        more = Bindings(self._clock)
        vars(more).update(vars(self))
        vars(more).update(variables)
        return more


def bind_units(
    env: Bindings,
    actors: Mapping[str, ActorClass],
    services: Mapping[str, type[Service] | ASGIApp],
    namespace: Callable[[ActorClass], ActorNamespace],
    door: Door,
    clients: Mapping[str, Client],
) -> None:
    """Bind every unit: a namespace for each actor class, or the client that is made of it, and a stub for each service."""
    for unit, actor_class in actors.items():
        client = clients.get(unit)
        if client is None:
            env.bind(binding_name(unit), namespace(actor_class), actor_class.cls)
        else:
            env.bind(binding_name(unit), client(namespace(actor_class), env))
    for unit, service in services.items():
        cls = service if isinstance(service, type) and issubclass(service, Service) else None
        env.bind(binding_name(unit), ServiceStub(unit, {} if cls is None else method_table(cls, Service), door), cls)


def _by_class(table: Mapping[type, Any], cls: type, kind: str) -> Any:
    found = table.get(cls)
    if found is None:
        problem = f"several {kind}s have the class {cls.__name__}" if cls in table else f"no {kind} has the class {cls.__name__}"
        raise Invalid(f"{problem}; use env.NAME")
    return found
