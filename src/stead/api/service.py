"""`Service`: the class that users subclass for stateless code with an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from stead.api.http import Request, ResponseLike
from stead.errors import Invalid

if TYPE_CHECKING:
    from stead.api.env import Env

F = TypeVar("F", bound=Callable[..., Any])


class Service:
    """Stateless code, reached by HTTP or by other units through its binding.

    Answer HTTP with methods marked `@route`, or with `fetch` for what no route matches. Every other public async method is callable
    through the binding.
    """

    env: Env

    async def fetch(self, request: Request) -> ResponseLike:
        """Override to answer requests that no route matches."""
        raise Invalid(f"{type(self).__name__} has no fetch()")


def route(method: str, path: str) -> Callable[[F], F]:
    """Answer `method` requests for `path` with the decorated method of a `Service`: `@route("GET", "/carts/{user}")`.

    Paths and converters are Starlette's (`{user}`, `{n:int}`, `{rest:path}`); the parameters are passed by name. GET answers
    HEAD too. One method may carry several routes.
    """
    if not path.startswith("/"):
        raise Invalid(f'a route\'s path begins with "/": {path!r}')

    def mark(function: F) -> F:
        routes = (*getattr(function, "stead_routes", ()), (method.upper(), path))
        cast(Any, function).stead_routes = routes
        return function

    return mark
