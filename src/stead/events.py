"""Everything that can be delivered, as frozen values.

An event says all there is to know about one delivery, so that a process boundary or a network can stand between who sends and who
handles it. `chain` lists the turns that wait for this one, outermost first: a call that comes back to an actor in it runs nested.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Receive

from stead.ids import ActorId


class TurnRef(msgspec.Struct, frozen=True, gc=False):
    """One turn of one actor, by a number that its node never uses again."""

    actor: ActorId
    number: int


Chain = tuple[TurnRef, ...]


class Call(msgspec.Struct, frozen=True):
    """A method call. `arguments` is the codec's encoding of `[positional list, keyword dict]`. The reply is the encoded result."""

    method: str
    arguments: bytes
    chain: Chain = ()


class Fetch(msgspec.Struct, frozen=True):
    """An HTTP request. `scope` holds ASGI's plain HTTP keys only; `receive` streams the body. The reply is a `Response`."""

    scope: dict[str, Any]
    receive: Receive
    chain: Chain = ()


class AlarmDue(msgspec.Struct, frozen=True):
    """An alarm whose time has come, as the index said. The reply is None."""

    name: str
    due_ms: int
    chain: Chain = ()


Event = Call | Fetch | AlarmDue
