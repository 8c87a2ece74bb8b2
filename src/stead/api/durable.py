"""`durable` attributes: state that looks like plain attributes and commits with the turn.

The values live in the instance's `__dict__`; the descriptor only watches assignment. At the end of a turn the runtime compares each
value's encoding with the stored one, so a change inside a list or dict is noticed as well, however it was reached.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar, cast, overload

from stead.errors import Invalid

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_MISSING = object()


@overload
def durable(default: T) -> T: ...
@overload
def durable(*, factory: Callable[[], T]) -> T: ...
def durable(default: Any = _MISSING, *, factory: Callable[[], Any] | None = None) -> Any:
    """Declare a durable attribute of an actor: `value: int = durable(0)`, `items: list[str] = durable(factory=list)`.

    Its annotation is the type it is read back as. A list, dict or set must be a `factory`; no two actors share a default.
    """
    if (default is _MISSING) == (factory is None):
        raise Invalid("durable() takes either a default or factory=…")
    if isinstance(default, list | dict | set):
        raise Invalid(f"durable({default!r}) would be one object for all actors; write durable(factory={type(default).__name__})")
    if factory is None:
        # A copy for each actor; of what cannot change it is the same object.
        return DurableField(lambda: deepcopy(default))
    return DurableField(factory)


class DurableField:
    """The descriptor that `durable` makes. `name` is the attribute's and the stored key's name."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        values = instance.__dict__
        if self.name not in values:  # an instance that no runtime made: a user's unit test
            values[self.name] = self.factory()
        return values[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        context = instance.__dict__.get("ctx")
        if context is not None:
            context.check_write(self.name)
        instance.__dict__[self.name] = value


def durable_fields(cls: type) -> dict[str, DurableField]:
    """The durable attributes of a class and its bases, by name."""
    fields: dict[str, DurableField] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, DurableField):
                fields[name] = value
            else:
                fields.pop(name, None)
    return fields


def reads(method: F) -> F:
    """Mark a method that does not write: such methods run side by side, and never beside a writing turn."""
    cast(Any, method).stead_reads = True
    return method
