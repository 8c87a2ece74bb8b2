"""What the runtime needs to know of an actor class, compiled once."""

from __future__ import annotations

import inspect

from stead.api import Actor, alarm_handlers
from stead.errors import Invalid
from stead.runtime.attributes import AttributeTypes
from stead.runtime.methods import method_table


class ActorClass:
    """A unit's class: its callable methods, its durable attributes, the hooks it overrides and its limits."""

    def __init__(self, unit: str, cls: type[Actor]) -> None:
        for hook in ("on_start", "fetch", "alarm"):
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
        self.turn_limit_s = _positive(cls, "turn_limit_s")
        self.hibernate_after_s = _positive(cls, "hibernate_after_s")
        self.mailbox_events_max = int(_positive(cls, "mailbox_events_max"))

    def handles_alarm(self, name: str) -> bool:
        """Whether something runs when the alarm of this name is due."""
        return self._alarmed or name in self.alarm_handlers


def _positive(cls: type[Actor], name: str) -> float:
    value = getattr(cls, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Invalid(f"{cls.__name__}.{name} must be a positive number, not {value!r}")
    return float(value)
