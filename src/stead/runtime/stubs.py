"""Stubs: how one unit calls another. They hold an address and nothing else, so they never break.

A call that leaves a turn waits at the gate of its actor, behind everything that left before it; then the event enters the target's
mailbox at that moment, not when some task is next scheduled. That keeps the order of one sender's calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from starlette.requests import Request

from stead.api import ActorEntry, ActorPage, Response
from stead.errors import Invalid
from stead.events import Call, Chain, Event, Fetch, Handover
from stead.ids import ActorId, Chance, named_id, parse_id, unique_id
from stead.runtime.classes import ActorClass
from stead.runtime.derived import DERIVED
from stead.runtime.handshake import check_handshake, offered_subprotocols
from stead.runtime.methods import Method, did_you_mean
from stead.runtime.outbox import Leaving, Signal
from stead.runtime.receipts import check_idempotency_key
from stead.runtime.responses import collect
from stead.runtime.turn import CURRENT, Turn
from stead.storage.contract import ActorRow

_SCOPE_KEYS = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "root_path",
    "query_string",
    "headers",
    "client",
    "server",
)
LIST_MAX = 10_000  # actors in one page
REGION_CHARS_MAX = 64  # nodes remember hints


class Door(Protocol):
    """The dispatcher, as stubs see it."""

    def forward(self, target: ActorId, event: Event, reply: asyncio.Future[Any], caller: Turn | None) -> None: ...
    def serve(self, service: str, event: Event) -> Coroutine[Any, Any, Any]: ...


class Registry(Protocol):
    """The engine, as namespaces see it."""

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]: ...


class Outgoing:
    """A call at the gate of the turn that makes it."""

    __slots__ = ("caller", "door", "event", "reply", "target")

    def __init__(self, door: Door, target: ActorId, event: Event, reply: asyncio.Future[Any], caller: Turn) -> None:
        self.door, self.target, self.event, self.reply, self.caller = door, target, event, reply, caller

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self.door.forward(self.target, self.event, self.reply, self.caller)
        elif not self.reply.done():
            self.reply.set_exception(error)


class Stub:
    """An actor as others see it: `fetch`, `connect`, and in the subclass that `stub_class` makes, its public async methods."""

    __slots__ = ("_door", "_idempotency_key", "_location_hint", "id")
    _class: ClassVar[ActorClass]

    def __init__(self, actor: ActorId, door: Door, idempotency_key: str | None = None, location_hint: str = "") -> None:
        self.id = actor
        self._door = door
        self._idempotency_key = idempotency_key
        self._location_hint = location_hint

    @property
    def name(self) -> str | None:
        return self.id.name

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return _missing(self._class.cls.__name__, name, self._class.methods)

    async def fetch(self, request: Request) -> Response:
        """Hand an HTTP request to the actor's `fetch`."""
        reply: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        turn = await leaving()
        event = fetch_event(request, () if turn is None else turn.chain, location_hint=self._location_hint)
        self._send(event, reply, turn)
        return await reply

    def with_idempotency_key(self, key: str) -> Stub:
        """The same actor, whose methods run once for the key: a repeat within 24 h gets the first one's result."""
        return type(self)(self.id, self._door, check_idempotency_key(key), self._location_hint)

    async def signal(self, method: str, /, *positional: Any, **named: Any) -> None:
        """Call a method one-way. In a turn it commits with the turn, is delivered after it, and takes effect once."""
        found = self._class.methods.get(method)
        if found is None:
            raise unknown_method(self._class.cls.__name__, method, self._class.methods)
        turn = CURRENT.get()
        if turn is None or DERIVED.get() is not None:  # code that may run again would send it again: a call has a key
            await getattr(self, method)(*positional, **named)
            return
        arguments = found.encode(positional, named)
        turn = await turn.activation.state.writable("a signal")
        outbox = turn.activation.state.outbox
        await outbox.learn(turn)
        turn.effect().add(Leaving(outbox, Signal(self.id.text, method, arguments)), len(arguments))

    async def connect(self, request: Request, subprotocol: str | None = None) -> Response:
        """The response to a handshake that hands its socket to the actor."""
        self._class.check_admits_sockets()
        check_handshake(request)
        if subprotocol is not None and subprotocol not in offered_subprotocols(request):
            raise Invalid(f"the client has not offered the subprotocol {subprotocol!r}, and would not go on with it")
        return Handover(self.id, fetch_event(request, ()).scope, subprotocol, self._location_hint)

    def __repr__(self) -> str:
        return f"<Stub {self.id}>"

    def _key(self, method: Method) -> str | None:
        """The idempotency key of a call: the one given, or one derived from that of the running code."""
        if self._idempotency_key is not None or method.reads:
            return self._idempotency_key
        derived = DERIVED.get()
        return None if derived is None else derived.next(self.id.text, method.name)

    def _send(self, event: Event, reply: asyncio.Future[Any], turn: Turn | None) -> None:
        if turn is None:
            self._door.forward(self.id, event, reply, None)
        else:
            turn.activation.state.gate.release(Outgoing(self._door, self.id, event, reply, turn))


def stub_class(actor_class: ActorClass) -> type[Stub]:
    """The stubs of one class: its methods are attributes as any object's are, so that finding one costs a call nothing."""
    callers = {name: _caller(method) for name, method in actor_class.methods.items() if not hasattr(Stub, name)}
    return type(f"{actor_class.cls.__name__}Stub", (Stub,), {"__slots__": (), "_class": actor_class, **callers})


def _caller(method: Method) -> Callable[..., Coroutine[Any, Any, Any]]:
    name, encode, result = method.name, method.encode, method.result

    async def call(self: Stub, /, *positional: Any, **named: Any) -> Any:
        arguments = encode(positional, named)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        turn, key = CURRENT.get(), self._key(method)
        if turn is None:
            self._door.forward(self.id, Call(name, arguments, (), None, key, self._location_hint), reply, None)
        else:
            await leaving()
            self._send(Call(name, arguments, turn.chain, None, key, self._location_hint), reply, turn)
        return result(await reply)

    call.__name__, call.__qualname__ = name, method.where
    return call


class ServiceStub:
    """A service as other units see it."""

    __slots__ = ("_door", "_idempotency_key", "_methods", "_name")

    def __init__(self, name: str, methods: dict[str, Method], door: Door, idempotency_key: str | None = None) -> None:
        self._name = name
        self._methods = methods
        self._door = door
        self._idempotency_key = idempotency_key

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = self._methods.get(name)
        if method is None:
            return _missing(f"service {self._name!r}", name, self._methods)
        return partial(self._call, method)

    async def fetch(self, request: Request) -> Response:
        """Hand an HTTP request to the service; the answer is whole when it comes."""
        event = fetch_event(request, await self._chain(), self._idempotency_key)
        return await collect(await self._door.serve(self._name, event), event)

    def with_idempotency_key(self, key: str) -> ServiceStub:
        """The same service, whose calls to actors take effect once for the key."""
        return ServiceStub(self._name, self._methods, self._door, check_idempotency_key(key))

    def __repr__(self) -> str:
        return f"<Service {self._name}>"

    async def _call(self, method: Method, /, *positional: Any, **named: Any) -> Any:
        event = Call(method.name, method.encode(positional, named), await self._chain(), None, self._idempotency_key)
        return method.result(await self._door.serve(self._name, event))

    async def _chain(self) -> Chain:
        turn = await leaving()
        if turn is None:
            return ()
        await turn.activation.state.gate.wait_open()
        return turn.chain


class ActorNamespace:
    """The implementation of `stead.Namespace`."""

    def __init__(self, actor_class: ActorClass, door: Door, registry: Registry, chance: Chance) -> None:
        self._stub = stub_class(actor_class)
        self._unit = actor_class.unit
        self._door = door
        self._registry = registry
        self._chance = chance

    def get(self, actor: str | ActorId, *, location_hint: str | None = None) -> Any:
        if isinstance(actor, ActorId):
            self._check(actor)
        else:
            actor = named_id(self._unit, actor)
        return self._stub(actor, self._door, None, "" if location_hint is None else _checked_hint(location_hint))

    def unique_id(self) -> ActorId:
        return unique_id(self._unit, self._chance)

    def id_from_name(self, name: str) -> ActorId:
        return named_id(self._unit, name)

    def id_from_string(self, text: str) -> ActorId:
        actor = parse_id(text)
        self._check(actor)
        return actor

    async def list(self, prefix: str = "", limit: int = 1000, cursor: str | None = None) -> ActorPage:
        if not 0 < limit <= LIST_MAX:
            raise Invalid(f"limit must be 1 to {LIST_MAX:,}, got {limit}")
        rows = await self._registry.actors(self._unit, prefix=prefix, after=cursor or "", limit=limit + 1)
        entries = [ActorEntry(row.actor, row.size_bytes, row.created_ms, row.active_ms) for row in rows[:limit]]
        return ActorPage(entries, entries[-1].id.text if len(rows) > limit else None)

    def __repr__(self) -> str:
        return f"<Namespace {self._unit}>"

    def _check(self, actor: ActorId) -> None:
        if actor.unit != self._unit:
            raise Invalid(f"{actor} belongs to {actor.unit!r}, not to {self._unit!r}")


def _checked_hint(region: str) -> str:
    if isinstance(region, str) and 0 < len(region) <= REGION_CHARS_MAX:
        return region
    raise Invalid(f"a location hint is the name of a region, 1 to {REGION_CHARS_MAX} characters, not {region!r:.80}")


def _missing(where: str, name: str, known: Mapping[str, Method]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """What a stub has in place of a method that its class has not: an error for who calls it."""
    if name.startswith("_"):
        raise AttributeError(name)

    async def call(*positional: Any, **named: Any) -> Any:  # noqa: RUF029 - stands for an async method
        raise unknown_method(where, name, known)

    return call


def unknown_method(where: str, name: str, known: Mapping[str, Method]) -> Invalid:
    return Invalid(f"{where} has no callable method {name!r}{did_you_mean(name, known)}; public async methods are callable")


async def leaving() -> Turn | None:
    """The turn that the running code would leave with a call, its writes so far submitted; None outside turns."""
    turn = CURRENT.get()
    if turn is None:
        return None
    turn.check_may_leave()
    if turn.nest is not None:
        await turn.activation.state.readable("a call to another unit")
    await turn.activation.state.seal(turn)
    return turn


def fetch_event(request: Request, chain: Chain, idempotency_key: str | None = None, location_hint: str = "") -> Fetch:
    scope = request.scope
    kept = {key: scope[key] for key in _SCOPE_KEYS if key in scope}
    return Fetch(kept, request.receive, chain, idempotency_key, location_hint)
