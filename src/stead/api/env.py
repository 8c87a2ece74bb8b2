"""Bindings: how a unit reaches every other unit, by its name in UPPER_SNAKE."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from stead.api.actor import Actor
from stead.api.service import Service
from stead.errors import Unavailable
from stead.ids import ActorId

A = TypeVar("A", bound=Actor)
A_co = TypeVar("A_co", bound=Actor, covariant=True)
S = TypeVar("S", bound=Service)


class ActorEntry(msgspec.Struct, frozen=True):
    """A line of a namespace's list: an actor that holds something."""

    id: ActorId
    size_bytes: int
    created_ms: int
    active_ms: int

    @property
    def name(self) -> str | None:
        return self.id.name


class ActorPage(msgspec.Struct, frozen=True):
    """One page of a namespace's list; `cursor` asks for the next one and is None on the last."""

    actors: list[ActorEntry]
    cursor: str | None = None


class Namespace(Protocol, Generic[A_co]):
    """All actors of one unit."""

    def get(self, actor: str | ActorId, *, location_hint: str | None = None) -> A_co:
        """A stub for the actor of this name or id. Nothing is sent and nothing is made until a method of it is called.

        `location_hint` is the region of the cluster where the actor should rather be if no node has it when it is called.
        """
        ...

    def unique_id(self) -> ActorId:
        """A new id that no name gives."""
        ...

    def id_from_name(self, name: str) -> ActorId: ...
    def id_from_string(self, text: str) -> ActorId:
        """The id that `str(id)` came from; `Invalid` if it is another namespace's."""
        ...

    async def list(self, prefix: str = "", limit: int = 1000, cursor: str | None = None) -> ActorPage:
        """Actors that hold something, ordered by name, those whose name begins with `prefix`."""
        ...


class Env(Protocol):
    """The bindings of a unit: `env.SHOPPING_CART`, `env.API`, variables as text, `env.logger`, and the time."""

    def __getattr__(self, name: str) -> Any: ...
    def now(self) -> datetime:
        """The time in UTC, by the clock that alarms go by: in tests the virtual one."""
        ...

    def actor(self, cls: type[A]) -> Namespace[A]:
        """The namespace of the unit whose class is `cls`, typed: its stubs check against the class."""
        ...

    def service(self, cls: type[S]) -> S:
        """The binding of the service whose class is `cls`, typed."""
        ...


CURRENT_ENV: ContextVar[Env] = ContextVar("stead_env")


def current_env() -> Env:
    """The bindings of the unit that is running: for code without a `self`, such as a mounted ASGI application."""
    try:
        return CURRENT_ENV.get()
    except LookupError:
        raise Unavailable("no unit is running here; current_env() works while Stead handles a request or a call") from None
