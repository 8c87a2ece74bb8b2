"""What a statement takes as parameters and gives as cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from stead.errors import SqlError

SqlValue: TypeAlias = None | int | float | str | bytes
Bindings: TypeAlias = tuple[SqlValue, ...] | dict[str, SqlValue]

_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**63 - 1


def checked_params(params: Sequence[object], query: str) -> Bindings:
    """The parameters as SQLite takes them: in order, or by name if there is one and it is a dict. SqlError names a wrong one."""
    if len(params) == 1 and isinstance(params[0], Mapping):
        named = params[0]
        return {str(name): _checked(value, f":{name}", query) for name, value in named.items()}
    return tuple(_checked(value, position, query) for position, value in enumerate(params, 1))


def _checked(value: object, place: int | str, query: str) -> SqlValue:
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, int):
        if _INTEGER_MIN <= value <= _INTEGER_MAX:
            return value
        raise SqlError(f"parameter {place} is an int of over 64 bits, which SQLite cannot hold: pass it as a str", query)
    if isinstance(value, float):
        if value == value:
            return value
        raise SqlError(f"parameter {place} is NaN, which SQLite would turn into NULL: pass None if that is meant", query)
    raise SqlError(
        f"parameter {place} is of type {type(value).__name__}: SQL takes None, int, float, str, bytes and bool "
        "(a date as .isoformat(), a list as json.dumps(…))",
        query,
    )
