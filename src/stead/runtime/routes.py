"""Which handler of a service answers a path and a method.

Compiled once per class. A path without parameters is found in a dictionary; patterns are tried after it, in the order they were
declared: the class's own first, then its bases'. The nearest definition of a name counts, so a method that is overridden without
`@route` is no handler any more. What is wrong with a declaration is said here, before anything is served.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any

from starlette.convertors import Convertor
from starlette.routing import compile_path

from stead.api import HTTPException, Idempotent, ResponseLike, Route, Service
from stead.errors import Invalid

_METHOD = re.compile(r"[A-Z][A-Z0-9-]*")
_PARAM_NAME = re.compile(r"\(\?P<\w+>")
_NO_PARAMS: Mapping[str, Any] = {}


class Handler:
    """A method of a service that answers requests. `where` names it in errors."""

    __slots__ = ("function", "idempotent", "where")

    def __init__(self, function: Callable[..., Awaitable[ResponseLike]], where: str, idempotent: Idempotent = False) -> None:
        self.function = function
        self.where = where
        self.idempotent = idempotent


Match = tuple[Handler, Mapping[str, Any]]
"""A handler and the values of its path's parameters."""


class _Pattern:
    """A path with parameters and its handlers by method."""

    __slots__ = ("_convertors", "_match", "handlers")

    def __init__(self, regex: re.Pattern[str], convertors: dict[str, Convertor[Any]]) -> None:
        self._match = regex.fullmatch
        self._convertors = convertors.items()
        self.handlers: dict[str, Handler] = {}

    def params(self, path: str) -> dict[str, Any] | None:
        """The converted values if the path matches."""
        match = self._match(path)
        if match is None:
            return None
        try:
            return {name: convertor.convert(match[name]) for name, convertor in self._convertors}
        except ValueError:  # the right letters, but no value: a number of 5,000 digits
            return None


class Routes:
    """The routes of one service class. Raises `Invalid` naming class and method for a declaration that cannot work."""

    def __init__(self, cls: type[Service]) -> None:
        self._literals: dict[str, dict[str, Handler]] = {}
        self._patterns: dict[str, _Pattern] = {}
        declared: dict[tuple[str, str], str] = {}
        for function, (method, path, idempotent) in _declarations(cls):
            where = f"{cls.__name__}.{function.__name__}"
            if not _METHOD.fullmatch(method):
                raise Invalid(f"{where}: {method!r} is no HTTP method")
            regex, convertors = _compile(path, where)
            handler = Handler(function, where, idempotent)
            check_handler(handler, convertors)
            other = declared.setdefault((method, _PARAM_NAME.sub("(", regex.pattern)), where)
            if other != where:
                raise Invalid(f'{where}: @route("{method}", "{path}") is {other}\'s route already; change one of the two paths')
            if convertors:
                handlers = self._patterns.setdefault(regex.pattern, _Pattern(regex, convertors)).handlers
            else:
                handlers = self._literals.setdefault(path, {})
            handlers[method] = handler
        for handlers in [*self._literals.values(), *(pattern.handlers for pattern in self._patterns.values())]:
            if "GET" in handlers:
                handlers.setdefault("HEAD", handlers["GET"])
        self._ordered = list(self._patterns.values())

    def find(self, method: str, path: str) -> Match | None:
        """The handler and its parameters; None if no route has this path. Raises 405 with the methods that the path does have."""
        allowed: list[str] = []
        handlers = self._literals.get(path)
        if handlers is not None:
            handler = handlers.get(method)
            if handler is not None:
                return handler, _NO_PARAMS
            allowed += handlers
        for pattern in self._ordered:
            params = pattern.params(path)
            if params is not None:
                handler = pattern.handlers.get(method)
                if handler is not None:
                    return handler, params
                allowed += pattern.handlers
        if allowed:
            names = ", ".join(sorted(set(allowed)))
            raise HTTPException(405, f"{path} answers {names}, not {method}", {"allow": names})
        return None


def _declarations(cls: type) -> Iterator[tuple[Callable[..., Any], Route]]:
    seen: set[str] = set()
    for base in cls.__mro__:
        for name, function in vars(base).items():
            if name not in seen:
                seen.add(name)
                for declared in getattr(function, "stead_routes", ()):
                    yield function, declared


def _compile(path: str, where: str) -> tuple[re.Pattern[str], dict[str, Convertor[Any]]]:
    try:
        regex, path_format, convertors = compile_path(path)
    except (AssertionError, ValueError) as exc:  # Starlette asserts that a convertor exists
        raise Invalid(f'{where}: the path "{path}" is no pattern: {exc}') from exc
    rest = path_format
    for name in convertors:
        rest = rest.replace("{" + name + "}", "")
    if "{" in rest or "}" in rest:
        raise Invalid(f'{where}: the path "{path}" is no pattern: a parameter reads {{name}} or {{name:convertor}}')
    return regex, convertors


def check_handler(handler: Handler, params: Collection[str]) -> None:
    """Raise `Invalid` unless the handler is asynchronous and can be called with a request and the parameters of its path."""
    if not inspect.iscoroutinefunction(handler.function):
        raise Invalid(f"{handler.where} must be `async def` to answer requests")
    try:
        inspect.signature(handler.function).bind(None, None, **dict.fromkeys(params))
    except TypeError as exc:
        expected = ", ".join(["self", "request", *params])
        raise Invalid(f"{handler.where} must accept ({expected}) to answer its path: {exc}") from exc
