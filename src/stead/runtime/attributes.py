"""The durable attributes of one instance: loaded when it is made, compared with what is stored when a turn ends."""

from __future__ import annotations

import sys
import typing
from types import SimpleNamespace
from typing import Any

from stead import codec
from stead.api import Actor, DurableField, durable_fields
from stead.errors import Invalid
from stead.storage.entries import ATTRIBUTE, Layer

_IMMUTABLE = frozenset({type(None), bool, int, float, str, bytes})  # the same object means the same value


class AttributeTypes:
    """The durable attributes of a class, with the types they are read back as. Compiled once per class."""

    def __init__(self, cls: type[Actor]) -> None:
        self.fields: dict[str, DurableField] = durable_fields(cls)
        self.hints: dict[str, Any] = {name: _hint(cls, name) for name in self.fields}
        self.keys: dict[str, bytes] = {name: ATTRIBUTE + name.encode() for name in self.fields}

    def value(self, name: str, data: bytes) -> Any:
        value = codec.decode(data)
        hint = self.hints[name]
        return value if hint is Any or type(value) is hint else codec.convert(value, hint)


def _hint(cls: type[Actor], name: str) -> Any:
    """The annotation of one attribute, looked up where its class was written."""
    owner = next((base for base in cls.__mro__ if name in vars(base).get("__annotations__", {})), None)
    if owner is None:
        return Any
    only = SimpleNamespace(__annotations__={name: owner.__annotations__[name]})
    try:
        return typing.get_type_hints(only, vars(sys.modules[owner.__module__]), dict(vars(owner)))[name]
    except NameError as exc:
        raise Invalid(f"{owner.__name__}.{name}: its annotation names what cannot be found: {exc}") from exc


class Attributes:
    """What each attribute was when last stored, or its default: the object, to see that nothing was assigned, and its bytes."""

    __slots__ = ("_bytes", "_seen", "_types", "_values")

    def __init__(self, types: AttributeTypes, instance: Actor, stored: dict[bytes, bytes]) -> None:
        self._types = types
        self._values: dict[str, Any] = instance.__dict__
        self._bytes: dict[str, bytes] = {}
        self._seen: dict[str, Any] = {}
        for name, key in types.keys.items():
            self._load(name, stored.get(key))

    def collect(self, layer: Layer) -> None:
        """Put what has changed into `layer`. Raises `Invalid` for a value that cannot be stored."""
        for name, data in self._changed():
            if len(data) > codec.VALUE_BYTES_MAX:
                raise Invalid(f"attribute {name!r} has {len(data):,} bytes encoded; the limit is {codec.VALUE_BYTES_MAX:,}")
            layer.writes[self._types.keys[name]] = data
            self._bytes[name] = data
            self._seen[name] = self._values[name]

    def have_changed(self) -> bool:
        """Whether memory differs from what was last collected; a value that cannot be encoded differs."""
        try:
            return bool(self._changed())
        except Invalid:
            return True

    def reload(self, stored: dict[bytes, bytes]) -> None:
        """Go back to what `stored` says: a part of the turn was rolled back, or the actor was erased."""
        for name, key in self._types.keys.items():
            self._load(name, stored.get(key))

    def _load(self, name: str, data: bytes | None) -> None:
        value = self._types.fields[name].factory() if data is None else self._types.value(name, data)
        self._values[name] = self._seen[name] = value
        self._bytes[name] = codec.encode(value) if data is None else data

    def _changed(self) -> list[tuple[str, bytes]]:
        changed = []
        for name, seen in self._seen.items():
            value = self._values[name]
            if value is seen and type(value) in _IMMUTABLE:
                continue
            data = codec.encode(value)
            if data != self._bytes[name]:
                changed.append((name, data))
            else:
                self._seen[name] = value
        return changed
