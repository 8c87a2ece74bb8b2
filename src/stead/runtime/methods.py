"""Which methods of a class other units may call, and how arguments become what the method asks for.

Compiled once per class. Values arrive as the codec decodes them; each is checked against its annotation and converted where the
annotation names a dataclass, a Struct, a model or an enum. A mistake is the caller's, found before anything runs, and names the
argument and the expected type.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from stead import codec
from stead.errors import AppError, Invalid

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple, set, frozenset})
METHODS_KEPT_MAX = 1024  # for the next node of the same process, which tests have by the hundred
_NO_ARGUMENTS = codec.encode([[], {}])


class Parameter:
    """One parameter: its name, its type and how it may be passed."""

    __slots__ = ("annotation", "kind", "name", "plain", "required")

    def __init__(self, parameter: inspect.Parameter, annotation: Any) -> None:
        self.name = parameter.name
        self.kind = parameter.kind
        self.required = parameter.default is inspect.Parameter.empty
        self.annotation = annotation
        self.plain = annotation in _PLAIN if isinstance(annotation, type) else False

    def convert(self, value: Any, where: str) -> Any:
        if self.annotation is Any or (self.plain and type(value) is self.annotation):
            return value
        try:
            return codec.convert(value, self.annotation)
        except Invalid as exc:
            raise Invalid(f"{where}: argument {self.name!r} must be {type_name(self.annotation)}: {exc}") from exc


class Method:
    """A callable method of a unit's class."""

    __slots__ = (
        "_keywords",
        "_named",
        "_needs_none",
        "_positional",
        "_rest",
        "_returns_plain",
        "function",
        "name",
        "reads",
        "returns",
        "where",
    )

    def __init__(self, cls: type, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.where = f"{cls.__name__}.{self.name}"
        self.reads = bool(getattr(function, "stead_reads", False))
        hints = _hints(function, self.where)
        parameters = [
            Parameter(parameter, hints.get(parameter.name, Any))
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        self.returns: Any = hints.get("return", Any)
        self._returns_plain = _plain_type(self.returns)
        kinds = inspect.Parameter
        self._positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        self._named = {p.name: p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
        self._rest = next((p for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self._needs_none = not any(p.required for p in [*self._positional, *self._named.values()])
        self._keywords = next((p for p in parameters if p.kind is kinds.VAR_KEYWORD), None)

    def encode(self, positional: tuple[Any, ...], named: dict[str, Any]) -> bytes:
        """The arguments of a call as its event carries them."""
        return codec.encode([list(positional), named]) if positional or named else _NO_ARGUMENTS

    def bind(self, arguments: bytes) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments to call with. Raises `Invalid` naming what does not fit."""
        if arguments == _NO_ARGUMENTS and self._needs_none:
            return [], {}
        positional, named = codec.decode(arguments)
        parameters = self._positional
        if len(positional) > len(parameters) and self._rest is None:
            raise Invalid(f"{self.where} takes {len(parameters)} positional arguments, got {len(positional)}")
        values = [
            (parameters[index] if index < len(parameters) else self._rest).convert(value, self.where)  # type: ignore[union-attr]
            for index, value in enumerate(positional)
        ]
        keywords = self._bind_named(named, len(positional)) if named else named
        if len(values) < len(parameters) or len(self._named) > len(parameters):
            self._check_required(len(values), keywords)
        return values, keywords

    def _bind_named(self, named: dict[str, Any], given: int) -> dict[str, Any]:
        taken = {parameter.name for parameter in self._positional[:given]}
        keywords = {}
        for name, value in named.items():
            parameter = self._named.get(name) or self._keywords
            if parameter is None:
                raise Invalid(f"{self.where} has no argument {name!r}{did_you_mean(name, self._named)}")
            if name in taken:
                raise Invalid(f"{self.where}: argument {name!r} was given twice")
            keywords[name] = parameter.convert(value, self.where)
        return keywords

    def _check_required(self, given: int, keywords: Mapping[str, Any]) -> None:
        taken = {parameter.name for parameter in self._positional[:given]}
        candidates = [*self._positional[given:], *(p for p in self._named.values() if p.kind is inspect.Parameter.KEYWORD_ONLY)]
        missing = [p for p in candidates if p.required and p.name not in keywords and p.name not in taken]
        if missing:
            names = ", ".join(f"{p.name!r} ({type_name(p.annotation)})" for p in missing)
            raise Invalid(f"{self.where}: missing argument {names}")

    def encode_result(self, value: Any) -> bytes:
        """A reply as it travels. Raises `AppError` in the method's own turn if it is not what the annotation says."""
        data = codec.encode(value)
        if value is not None and self.returns is not Any and type(value) is not self._returns_plain:
            try:
                codec.convert(codec.decode(data), self.returns)
            except Invalid as exc:
                raise AppError(f"{self.where} returned what is no {type_name(self.returns)}: {exc}", "TypeError") from exc
        return data

    def result(self, data: bytes) -> Any:
        """A reply as the caller gets it: of the annotated type."""
        value = codec.decode(data)
        if value is None or self.returns is Any or type(value) is self._returns_plain:
            return value
        return codec.convert(value, self.returns)


def method_table(cls: type, base: type) -> dict[str, Method]:
    """The public async methods that `cls` adds to `base`, by name. Hooks that `base` names are not callable."""
    table = {}
    for name in dir(cls):
        if name.startswith("_") or hasattr(base, name):
            continue
        function = inspect.getattr_static(cls, name)
        if inspect.iscoroutinefunction(function):
            table[name] = _method(cls, function)
    return table


@lru_cache(maxsize=METHODS_KEPT_MAX)
def _method(cls: type, function: Callable[..., Any]) -> Method:
    return Method(cls, function)


def find_method(table: Mapping[str, Method], name: str, cls: type) -> Method:
    """The method of this name. Raises `Invalid` with the nearest name there is."""
    method = table.get(name)
    if method is None:
        raise Invalid(
            f"{cls.__name__} has no callable method {name!r}{did_you_mean(name, table)}; public async methods are callable"
        )
    return method


def did_you_mean(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _plain_type(annotation: Any) -> type | None:
    """The type whose instances need no conversion: of `int`, `dict` or `dict[str, Any]`, say."""
    if annotation == dict[str, Any]:
        return dict
    if annotation == list[Any]:
        return list
    return annotation if isinstance(annotation, type) and annotation in _PLAIN else None


def type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def _hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as exc:
        raise Invalid(f"{where}: an annotation names what cannot be found when it is looked up: {exc}") from exc
