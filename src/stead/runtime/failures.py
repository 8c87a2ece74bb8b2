"""Errors that cross from one unit to another, or from one node to another.

They are values like any other: the receiver gets an error of its own, of the same type, whose arguments went through the codec, so
that no two actors share an object. The type is looked up among loaded modules and must be an exception: nothing is imported, and no
constructor of the application runs. Where that fails the receiver gets an `AppError` with the original's name and message.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stead import codec
from stead.errors import AppError, Invalid

TRACEBACK_CHARS_MAX = 8_000  # a note is for a person to read


class Packed(msgspec.Struct, array_like=True):
    """An error as a value. `arguments` and `attributes` are encoded, `parts` are those of a group."""

    module: str
    name: str
    message: str
    arguments: Sequence[bytes] = ()
    attributes: Mapping[str, bytes] = {}
    notes: Sequence[str] = ()
    parts: Sequence[Packed] = ()

    @property
    def type_name(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


def carried(error: BaseException, where: str) -> BaseException:
    """A copy of `error`, raised in `where`, for the caller of the unit that raised it. Never raises."""
    copy = unpacked(packed(error))
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
    copy.add_note(f"raised in {where}:\n{text.rstrip()}")
    return copy


def packed(error: BaseException) -> Packed:
    """An error as a value: only its name and its message, where it is not made as errors are. Never raises."""
    cls = type(error)
    alone = Packed(cls.__module__, cls.__qualname__, message_of(error))
    try:
        alone.notes = [str(note) for note in getattr(error, "__notes__", ())]
        if _loaded(cls.__module__, cls.__qualname__) is not cls or not isinstance(error, Exception):
            return Packed("", alone.type_name, alone.message, notes=alone.notes)
        if isinstance(error, ExceptionGroup):
            alone.arguments = [codec.encode(error.message)]
            alone.parts = [packed(each) for each in error.exceptions]
            return alone
        alone.attributes = {name: _value(value) for name, value in vars(error).items() if not name.startswith("__")}
        alone.arguments = [_value(argument) for argument in error.args]
    except Exception:  # noqa: BLE001 - an application's error may fail in any of its parts
        return Packed("", alone.type_name, alone.message, notes=alone.notes)
    return alone


def unpacked(error: Packed) -> Exception:
    """The error again. Never raises."""
    try:
        copy = _made(error)
    except Exception:  # noqa: BLE001 - an application's error may fail in any of its parts
        copy = AppError(error.message, error.type_name)
    for note in error.notes:
        copy.add_note(note)
    return copy


def _made(error: Packed) -> Exception:
    cls = _loaded(error.module, error.name)
    if not isinstance(cls, type) or not issubclass(cls, Exception):
        return AppError(error.message, error.type_name)
    arguments = [codec.decode(argument) for argument in error.arguments]
    if issubclass(cls, ExceptionGroup):
        return ExceptionGroup(arguments[0], [unpacked(part) for part in error.parts])
    copy: Exception = cls(*arguments) if cls.__module__ == "builtins" else cls.__new__(cls)
    copy.args = tuple(arguments)
    copy.__dict__.update({name: codec.decode(value) for name, value in error.attributes.items()})
    return copy


def _loaded(module: str, qualified_name: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found


def _value(value: object) -> bytes:
    try:
        return codec.encode(value)
    except Invalid:
        return codec.encode(str(value))


def message_of(error: BaseException) -> str:
    """What an error says, or its type if it says nothing. Never raises."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an application's __str__
        return type(error).__name__
