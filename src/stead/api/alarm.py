"""`on_alarm`: a method of its own for an alarm, so that a mixin's alarms and the application's do not meet in one `alarm()`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Awaitable[None]])


def on_alarm(name: str) -> Callable[[F], F]:
    """Mark an async method that runs, instead of `alarm()`, when the alarm of this name is due. It gets the `AlarmInfo`."""

    def mark(method: F) -> F:
        cast(Any, method).stead_alarm = name
        return method

    return mark


def alarm_handlers(cls: type) -> dict[str, Callable[..., Awaitable[None]]]:
    """The methods marked in a class and its bases, by the alarm's name. A name that a subclass overrides unmarked is none."""
    found: dict[str, Callable[..., Awaitable[None]]] = {}
    for attribute in dict.fromkeys(name for base in cls.__mro__ for name in vars(base)):
        method = getattr(cls, attribute, None)
        name = getattr(method, "stead_alarm", None)
        if callable(method) and isinstance(name, str):
            found.setdefault(name, method)
    return found
