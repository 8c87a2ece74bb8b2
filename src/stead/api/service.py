"""`Service`: the class that users subclass for stateless code with an address."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TypeVar, cast

from stead.api.http import Request, Response, ResponseLike
from stead.errors import Invalid

if TYPE_CHECKING:
    from stead.api.env import Env

F = TypeVar("F", bound=Callable[..., Any])
Idempotent = bool | Literal["required"]


RESPONSES = ".responses"  # the name under which `env` has them: one that no unit of a manifest can have


class Cache(Protocol):
    """HTTP responses by their request, as Cache-Control, Vary and ETag say; a node may forget them at any time."""

    async def match(self, request: Request) -> Response | None:
        """The response that is kept for this request, with its `Age`; 304 if the client has it already. None if there is none."""
        ...

    async def put(self, request: Request, response: Response) -> bool:
        """Keep a whole response for requests like this one. False if it may not be kept; `Invalid` for a streaming one."""
        ...

    async def delete(self, request: Request) -> bool:
        """Forget what is kept for the request's address, and say whether there was anything."""
        ...


class Service:
    """Stateless code, reached by HTTP or by other units through its binding.

    Answer HTTP with methods marked `@route`, or with `fetch` for what no route matches. Every other public async method is callable
    through the binding.
    """

    env: Env

    @cached_property
    def cache(self) -> Cache:
        """The responses that this node remembers, for all services of the application."""
        cache: Cache = getattr(self.env, RESPONSES)
        return cache

    async def fetch(self, request: Request) -> ResponseLike:
        """Override to answer requests that no route matches."""
        raise Invalid(f"{type(self).__name__} has no fetch()")

    def with_idempotency_key(self, key: str) -> Self:
        """Of a binding: the same service, whose calls to actors take effect once for a key. Not to be overridden.

        A service keeps nothing, so a repeat runs its code again; but each call that it makes of an actor's method carries a key
        derived from this one, and gets the first one's result within 24 h, also across a crash.
        """
        raise Invalid("with_idempotency_key() is for bindings: self.env.NAME.with_idempotency_key(key)")


class Route(NamedTuple):
    """What `@route` says."""

    method: str
    path: str
    idempotent: Idempotent = False


def route(method: str, path: str, *, idempotent: Idempotent = False) -> Callable[[F], F]:
    """Answer `method` requests for `path` with the decorated method of a `Service`: `@route("GET", "/carts/{user}")`.

    Paths and converters are Starlette's (`{user}`, `{n:int}`, `{rest:path}`); the parameters are passed by name. GET answers
    HEAD too. One method may carry several routes. With `idempotent` a request that carries an `Idempotency-Key` header is answered
    once: its repeats within 24 h get the first one's response; "required" refuses requests without the header.
    """
    if not path.startswith("/"):
        raise Invalid(f'a route\'s path begins with "/": {path!r}')
    if idempotent not in (False, True, "required"):
        raise Invalid(f'idempotent must be False, True or "required", not {idempotent!r}')

    def mark(function: F) -> F:
        routes = (*getattr(function, "stead_routes", ()), Route(method.upper(), path, idempotent))
        cast(Any, function).stead_routes = routes
        return function

    return mark
