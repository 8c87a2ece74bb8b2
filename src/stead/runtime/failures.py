"""Errors that cross from one unit to another.

They are values like any other: the receiver gets an error of its own, of the same type, whose arguments went through the codec, so
that no two actors share an object. The type is looked up among loaded modules and must be an exception: nothing is imported, and no
constructor of the application runs. Where that fails the receiver gets an `AppError` with the original's name and message.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

from stead import codec
from stead.errors import AppError, Invalid

TRACEBACK_CHARS_MAX = 8_000  # a note is for a person to read


def carried(error: BaseException, where: str) -> BaseException:
    """A copy of `error`, raised in `where`, for the caller of the unit that raised it. Never raises."""
    try:
        copy = _copy(error)
        for note in getattr(error, "__notes__", ()):
            copy.add_note(note)
    except Exception:  # noqa: BLE001 - an application's error may fail in any of its parts
        copy = AppError(message_of(error), _type_name(error))
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
    copy.add_note(f"raised in {where}:\n{text.rstrip()}")
    return copy


def _copy(error: BaseException) -> BaseException:
    cls = _loaded(type(error).__module__, type(error).__qualname__)
    if cls is not type(error) or not isinstance(error, Exception):
        return AppError(message_of(error), _type_name(error))
    if isinstance(error, ExceptionGroup):
        return error.derive([_copy(each) for each in error.exceptions])
    copy = cls(*error.args) if cls.__module__ == "builtins" else cls.__new__(cls)
    copy.args = tuple(_value(argument) for argument in error.args)
    copy.__dict__.update({name: _value(value) for name, value in vars(error).items() if not name.startswith("__")})
    return copy


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _loaded(module: str, qualified_name: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found


def _value(value: object) -> object:
    try:
        return codec.decode(codec.encode(value))
    except Invalid:
        return str(value)


def message_of(error: BaseException) -> str:
    """What an error says, or its type if it says nothing. Never raises."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an application's __str__
        return type(error).__name__
