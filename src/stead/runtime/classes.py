"""What the runtime needs to know of an actor class, compiled once."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from stead.api import Actor, Env, HTTPException, Request, Response, alarm_handlers
from stead.errors import Invalid
from stead.events import SocketClosed, SocketEvent, SocketFailed, SocketMessage, SocketOpened
from stead.runtime.attributes import AttributeTypes
from stead.runtime.methods import method_table

HOOKS = ("on_start", "fetch", "alarm", "on_connect", "on_message", "on_close", "on_error")
_SOCKET_HOOKS: dict[type[SocketEvent], str] = {SocketMessage: "on_message", SocketClosed: "on_close", SocketFailed: "on_error"}


class Before(Protocol):
    """`before_connect` or `before_request` of a class."""

    __qualname__: str

    async def __call__(self, request: Request, env: Env, /) -> Request | Response | None: ...


class ActorClass:
    """A unit's class: its callable methods, its durable attributes, the hooks it overrides and its limits."""

    def __init__(self, unit: str, cls: type[Actor]) -> None:
        for hook in HOOKS:
            if not inspect.iscoroutinefunction(getattr(cls, hook)):
                raise Invalid(f"{cls.__name__}.{hook} must be an async method")
        self.unit = unit
        self.cls = cls
        self.methods = method_table(cls, Actor)
        self.attributes = AttributeTypes(cls)
        self.starts = cls.on_start is not Actor.on_start
        self.fetches = cls.fetch is not Actor.fetch
        self.fetch_reads = bool(getattr(cls.fetch, "stead_reads", False))
        self.alarm_handlers = alarm_handlers(cls)
        for name, handler in self.alarm_handlers.items():
            if not inspect.iscoroutinefunction(handler):
                raise Invalid(f"{cls.__name__}: the method for the alarm {name!r} must be async")
        self._alarmed = cls.alarm is not Actor.alarm
        if cls.connect is not Actor.connect:
            raise Invalid(f"{cls.__name__}.connect is taken: it hands a socket on; override on_connect to greet one")
        self.socket_events: frozenset[type] = _socket_events(cls)
        self.before_connect = _before(cls, "before_connect")
        self.before_request = _before(cls, "before_request")
        per_s = cls.socket_messages_per_s
        self.socket_messages_per_s = None if per_s is None else _positive(cls, "socket_messages_per_s")
        self.sockets_max = int(_positive(cls, "sockets_max"))
        self.turn_limit_s = _positive(cls, "turn_limit_s")
        self.hibernate_after_s = _positive(cls, "hibernate_after_s")
        self.mailbox_events_max = int(_positive(cls, "mailbox_events_max"))

    def handles_alarm(self, name: str) -> bool:
        """Whether something runs when the alarm of this name is due."""
        return self._alarmed or name in self.alarm_handlers

    def check_admits_sockets(self) -> None:
        """Raise 404 unless the class has something to do for a socket."""
        if not self.socket_events:
            raise HTTPException(404, f"{self.cls.__name__} has no on_connect(), on_message() or on_close()")


def _socket_events(cls: type[Actor]) -> frozenset[type]:
    """The events of a socket that need a turn: none if the class has no hook but `on_error`, else every opening."""
    overridden = {event for event, hook in _SOCKET_HOOKS.items() if getattr(cls, hook) is not getattr(Actor, hook)}
    if overridden <= {SocketFailed} and cls.on_connect is Actor.on_connect:
        return frozenset()
    return frozenset({SocketOpened, *overridden})


def _before(cls: type[Actor], name: str) -> Before | None:
    """The class's own hook, bound; None if it has none."""
    own: Any = inspect.getattr_static(cls, name)
    if own is inspect.getattr_static(Actor, name):
        return None
    if not isinstance(own, classmethod | staticmethod) or not inspect.iscoroutinefunction(own.__func__):
        raise Invalid(f"{cls.__name__}.{name} must be an async class method: it runs before there is an instance")
    hook: Before = getattr(cls, name)
    return hook


def _positive(cls: type[Actor], name: str) -> float:
    value = getattr(cls, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Invalid(f"{cls.__name__}.{name} must be a positive number, not {value!r}")
    return float(value)
