"""Making an instance of a user's class, and running one event on it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from stead.api import Actor, HTTPException, Response
from stead.errors import Aborted, Invalid
from stead.events import AlarmDue, Call, Fetch, SocketClosed, SocketFailed, SocketMessage, SocketOpened
from stead.runtime.alarms import ActorAlarms
from stead.runtime.attributes import Attributes
from stead.runtime.classes import ActorClass
from stead.runtime.hooks import run_hook
from stead.runtime.methods import find_method
from stead.runtime.responses import make_request, to_response
from stead.runtime.turn import Entry, Turn, Warmed


class Instance:
    """A user's object in memory, with its durable attributes."""

    __slots__ = ("_class", "attributes", "object")

    def __init__(self, actor_class: ActorClass, members: Mapping[str, Any], stored: dict[bytes, bytes]) -> None:
        self._class = actor_class
        self.object: Actor = actor_class.cls.__new__(actor_class.cls)
        self.object.__dict__.update(members)  # before __init__, so that it may use self.id and self.env
        self.attributes = Attributes(actor_class.attributes, self.object, stored)
        self.object.__init__()  # type: ignore[misc]

    async def call(self, event: Call) -> bytes:
        method = find_method(self._class.methods, event.method, self._class.cls)
        positional, named = method.bind(event.arguments)
        return method.encode_result(await method.function(self.object, *positional, **named))

    async def fetch(self, event: Fetch) -> Response:
        if not self._class.fetches:
            raise HTTPException(404, f"{self._class.cls.__name__} has no fetch()")
        response = await self.object.fetch(make_request(event.scope, event.receive))
        return to_response(response, f"{self._class.cls.__name__}.fetch")

    async def run_alarm(self, event: AlarmDue, turn: Turn, alarms: ActorAlarms) -> None:
        info = await alarms.begin(turn, event)
        if info is not None:
            if not self._class.handles_alarm(info.name):
                raise Invalid(f"{self._class.cls.__name__} has lost its alarm() method; add it and call alarms.retry()")
            handler = self._class.alarm_handlers.get(info.name)
            await (self.object.alarm(info) if handler is None else handler(self.object, info))

    async def enter(self, event: Entry, turn: Turn) -> None:
        if event.context is not self.object.ctx:  # what the block would change in memory is not this instance's
            raise Aborted("the instance that began this work was dropped after a failed turn; spawn the work anew")
        if not event.entered.done():
            event.entered.set_result(turn)
        await event.left

    async def warm(self) -> None:
        """Nothing: that there is an instance now is all that was asked for."""

    def handle(self, turn: Turn, alarms: ActorAlarms) -> Coroutine[Any, Any, Any]:
        """What runs the turn's event and returns its reply."""
        match turn.delivery.event:
            case Call(origin=None, idempotency_key=None) as event:
                return self.call(event)
            case Call() as event:
                return turn.activation.state.receipts.once(turn, event, self.call)
            case Fetch() as event:
                return self.fetch(event)
            case SocketMessage() | SocketOpened() | SocketClosed() | SocketFailed() as event:
                return run_hook(self.object, turn.activation.room, event)
            case AlarmDue() as event:
                return self.run_alarm(event, turn, alarms)
            case Entry() as event:
                return self.enter(event, turn)
            case Warmed():
                return self.warm()
        raise AssertionError("a chore needs no instance")
