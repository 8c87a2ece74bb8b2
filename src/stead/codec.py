"""Values as bytes, and back.

One encoding serves storage, calls and replies: MessagePack, with extension types for what MessagePack lacks, so that what goes in
comes out equal and of the same type. Dataclasses, `msgspec.Struct`s and pydantic models travel as their fields and enum members as
their values; `decode(data, type=T)` and `convert` build them again. Nothing in the bytes names code to run: hostile bytes can make
wrong values, never calls.

Not covered: object identity and cycles. Two references to one list come back as two lists; a cycle is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from stead.errors import Invalid

T = TypeVar("T")

VALUE_BYTES_MAX = 2 * 1024 * 1024  # one stored value: larger things are blobs
MESSAGE_BYTES_MAX = 32 * 1024 * 1024  # one call, reply or frame
DEPTH_MAX = 64  # nested containers; a cycle ends here as well

_TUPLE, _SET, _FROZENSET, _BIGINT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _UUID, _PAIRS = range(1, 12)
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1  # what MessagePack itself can hold

# What the constructors of the extension types raise for a payload that `encode` never makes.
_MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError)
_SCALARS = frozenset({type(None), bool, float, str, bytes})  # sent as they are

_pack = msgspec.msgpack.Encoder().encode


def encode(value: object, size_bytes_max: int = MESSAGE_BYTES_MAX) -> bytes:
    """`value` as bytes. Raises `Invalid` for an unsupported value (naming where it sits) or one over `size_bytes_max`."""
    try:
        data = _pack(value if type(value) in _SCALARS else _wire(value, 0))
    except UnicodeEncodeError as exc:
        raise Invalid("a str must be valid Unicode (it holds a lone surrogate)") from exc
    if len(data) > size_bytes_max:
        raise Invalid(f"the value has {len(data):,} bytes encoded; the limit here is {size_bytes_max:,}")
    return data


def decode(data: bytes) -> Any:
    """The value that `encode` made `data` from. Raises `Invalid` for bytes that are not of its making."""
    try:
        return _unpack(data)
    except (*_MALFORMED, msgspec.MsgspecError, RecursionError) as exc:
        raise Invalid(f"these bytes are no encoded value: {exc}") from exc


def convert(value: object, type: type[T]) -> T:
    """`value` as an instance of `type`, strictly: no text becomes a number. Raises `Invalid` with the path of what does not fit."""
    try:
        return msgspec.convert(value, type, dec_hook=_build)
    except msgspec.ValidationError as exc:
        raise Invalid(str(exc)) from exc
    except (TypeError, RecursionError) as exc:
        raise Invalid(f"a value cannot be read as {type!r}: {exc}") from exc


def _same(value: object, depth: int) -> object:
    return value


def _wire_int(value: Any, depth: int) -> object:
    return value if _INT_MIN <= value <= _INT_MAX else _extension(_BIGINT, hex(value))


def _wire_list(value: Any, depth: int) -> object:
    return [_wire(item, depth + 1) for item in value]


def _wire_dict(value: Any, depth: int) -> object:
    if all(type(key) is str for key in value):
        return {key: _wire(item, depth + 1) for key, item in value.items()}
    return _extension(_PAIRS, [[_wire(key, depth + 1), _wire(item, depth + 1)] for key, item in value.items()])


def _wire_set(code: int) -> Callable[[Any, int], object]:
    def wire(value: Any, depth: int) -> object:
        # Sorted by encoding: equal sets give equal bytes, so an unchanged attribute is seen to be unchanged.
        return msgspec.msgpack.Ext(code, b"".join([_array_header(len(value)), *sorted(_pack(_wire(v, depth + 1)) for v in value)]))

    return wire


def _array_header(length: int) -> bytes:
    return b"\xdd" + length.to_bytes(4, "big")


def _extension(code: int, payload: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _pack(payload))


_MESSAGEPACK = (int, float, str, bytes)  # of these the encoder takes the very type, no subclass
_WIRE: dict[type, Callable[[Any, int], object]] = {
    type(None): _same,
    bool: _same,
    int: _wire_int,
    float: _same,
    str: _same,
    bytes: _same,
    list: _wire_list,
    dict: _wire_dict,
    tuple: lambda value, depth: _extension(_TUPLE, [_wire(item, depth + 1) for item in value]),
    set: _wire_set(_SET),
    frozenset: _wire_set(_FROZENSET),
    datetime: lambda value, depth: _extension(_DATETIME, [value.isoformat(), value.fold]),
    date: lambda value, depth: _extension(_DATE, value.isoformat()),
    time: lambda value, depth: _extension(_TIME, [value.isoformat(), value.fold]),
    timedelta: lambda value, depth: _extension(_TIMEDELTA, [value.days, value.seconds, value.microseconds]),
    Decimal: lambda value, depth: _extension(_DECIMAL, str(value)),
    UUID: lambda value, depth: _extension(_UUID, value.bytes),
}


def _wire(value: object, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise Invalid(f"a value may nest {DEPTH_MAX} deep at most, and must not contain itself")
    handler = _WIRE.get(type(value))
    return _wire_other(value, depth) if handler is None else handler(value, depth)


def _wire_other(value: Any, depth: int) -> Any:
    """Fields of the types that have them, the plain value of a subclass of a plain type; anything else is refused."""
    if isinstance(value, Enum):
        return _wire(value.value, depth + 1)
    if isinstance(value, msgspec.Struct):
        return _wire_struct(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif callable(getattr(type(value), "model_dump", None)):
        fields = value.model_dump(by_alias=True)  # the names that it validates by
    else:
        for plain in type(value).__mro__[1:]:
            if plain in _WIRE:
                return _WIRE[plain](plain(value) if plain in _MESSAGEPACK else value, depth)
        raise Invalid(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} can be neither stored nor passed; use None, "
            "bool, int, float, str, bytes, list, tuple, dict, set, datetime and its kin, Decimal, UUID, Enum, a dataclass, a "
            "msgspec.Struct or a pydantic model"
        )
    return {name: _wire(item, depth + 1) for name, item in fields.items()}


def _wire_struct(value: msgspec.Struct, depth: int) -> object:
    """As msgspec reads it back: with the names and the tag that the class asks for, or as a list."""
    config = value.__struct_config__
    items = [_wire(getattr(value, name), depth + 1) for name in value.__struct_fields__]
    if config.array_like:
        return items if config.tag is None else [config.tag, *items]
    fields = dict(zip(value.__struct_encode_fields__, items, strict=True))
    return fields if config.tag_field is None else {config.tag_field: config.tag, **fields}


def _read_extension(code: int, data: memoryview) -> object:
    payload = _unpack(data)
    match code:
        case 1:
            return tuple(payload)
        case 2:
            return set(payload)
        case 3:
            return frozenset(payload)
        case 4:
            return int(payload, 16)
        case 5:
            return datetime.fromisoformat(payload[0]).replace(fold=payload[1])
        case 6:
            return date.fromisoformat(payload)
        case 7:
            return time.fromisoformat(payload[0]).replace(fold=payload[1])
        case 8:
            return timedelta(*payload)
        case 9:
            return Decimal(payload)
        case 10:
            return UUID(bytes=payload)
        case 11:
            return dict(payload)
        case _:
            raise ValueError(f"unknown extension type {code}")


_unpack: Callable[[bytes | memoryview], Any] = msgspec.msgpack.Decoder(ext_hook=_read_extension).decode


@lru_cache(maxsize=256)  # a bound, though applications name few types
def _validator(type_: type) -> Callable[[object], object] | None:
    return getattr(type_, "model_validate", None)


def _build(type_: type, value: object) -> object:
    """msgspec's hook for types it does not know: pydantic models, and classes whose instances are already right."""
    if isinstance(value, type_):
        return value
    validate = _validator(type_)
    if validate is None:
        raise TypeError("no dataclass, msgspec.Struct or pydantic model")
    try:
        return validate(value)
    except ValueError as exc:
        raise msgspec.ValidationError(str(exc)) from exc
