"""A data service: the actors that keep it, and what other units get in place of their namespace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from stead.api import Actor, Env, Namespace, Service


@dataclass(frozen=True)
class Binding:
    """What the node needs for one unit.

    `client` makes `env.NAME` from the namespace of `actor` and the application's bindings. `services` are stateless parts by the
    name under which `env` has them for the unit's own actors: names that no unit of a manifest can have. `on_start` is awaited with
    the client at each start of a node, before any code of the application runs by itself; what it raises stops the start. It may
    be called again when it has failed. Where it `starts_beside`, a node of a cluster does not wait for it.
    `operations` are the methods of the client that an operator may call, with arguments and results that JSON can carry.
    """

    actor: type[Actor]
    client: Callable[[Namespace[Any], Env], Any]
    services: dict[str, type[Service]] = field(default_factory=dict)
    on_start: Callable[[Any], Awaitable[None]] | None = None
    starts_beside: bool = False
    operations: frozenset[str] = frozenset()
