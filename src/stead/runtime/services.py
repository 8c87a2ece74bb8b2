"""A service at work: requests to its routes, calls to its methods, or a mounted ASGI application.

A service holds no state of its own, so events run side by side on one instance. `CURRENT_ENV` is set while its code runs, also
while a response that it streams is being sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from starlette.types import ASGIApp

from stead.api import CURRENT_ENV, Env, HTTPException, Response, Service
from stead.errors import Invalid
from stead.events import Call, Fetch
from stead.ids import ANSWERS_UNIT, binding_name
from stead.runtime.answers import answer_once, idempotency_key
from stead.runtime.derived import DERIVED, DerivedKeys
from stead.runtime.methods import Method, find_method, method_table
from stead.runtime.mounted import AsgiResponse, Lifespan
from stead.runtime.responses import collect, is_whole, make_request, to_response
from stead.runtime.routes import Handler, Match, Routes, check_handler
from stead.runtime.tasks import Tasks


class ServiceRunner:
    """Answers the events of one service. Raises `Invalid` at construction for a class that cannot be served."""

    def __init__(self, name: str, service: type[Service] | ASGIApp, env: Env) -> None:
        self.name = name
        self._runner: _ClassRunner | _AppRunner
        if isinstance(service, type) and issubclass(service, Service):
            self._runner = _ClassRunner(name, service, env)
        else:
            self._runner = _AppRunner(name, cast(ASGIApp, service), env)
        self.fetch = self._runner.fetch
        self.call = self._runner.call

    async def start(self, tasks: Tasks) -> None:
        """Start a mounted application; `tasks` owns its lifespan until `close`. Raises `AppError` when it fails to start."""
        await self._runner.start(tasks)

    async def close(self) -> None:
        """Shut a mounted application down. Raises `AppError` when it fails to."""
        await self._runner.close()


class _ClassRunner:
    def __init__(self, name: str, cls: type[Service], env: Env) -> None:
        self._name = name
        self._cls = cls
        self._env = env
        self._routes = Routes(cls)
        self._methods = {
            name: method for name, method in method_table(cls, Service).items() if not hasattr(method.function, "stead_routes")
        }
        self._fallback: Handler | None = None
        if cls.fetch is not Service.fetch:
            self._fallback = Handler(cls.fetch, f"{cls.__name__}.fetch")
            check_handler(self._fallback, ())
        self._service = cls.__new__(cls)
        self._service.env = env  # before __init__, which may want it
        token = CURRENT_ENV.set(env)
        try:
            cls.__init__(self._service)
        finally:
            CURRENT_ENV.reset(token)

    async def start(self, tasks: Tasks) -> None:
        return

    async def close(self) -> None:
        return

    async def fetch(self, event: Fetch) -> Response:
        """The answer of the route that matches, else of `fetch`. 404 and 405 are `HTTPException`s."""
        handler, params = self._find(event.scope["method"], event.scope["path"])
        if event.idempotency_key is not None:
            with self._deriving(handler.where, event.idempotency_key):
                return await collect(await self._answer(handler, params, event), event)
        key = idempotency_key(event.scope) if handler.idempotent else None
        if key is not None:
            return await answer_once(getattr(self._env, binding_name(ANSWERS_UNIT)), self._name, key, event)
        if handler.idempotent == "required":
            raise HTTPException(400, "send an Idempotency-Key: a text that is new for each request, and the same in its repeats")
        return await self._answer(handler, params, event)

    async def _answer(self, handler: Handler, params: Mapping[str, Any], event: Fetch) -> Response:
        token = CURRENT_ENV.set(self._env)
        try:
            value = await handler.function(self._service, make_request(event.scope, event.receive, params), **params)
        finally:
            CURRENT_ENV.reset(token)
        response = to_response(value, handler.where)
        if is_whole(response):
            return response
        return AsgiResponse(response, event, self._env)

    def _find(self, method: str, path: str) -> Match:
        found = self._routes.find(method, path)
        if found is not None:
            return found
        if self._fallback is None:
            raise HTTPException(404, f"{self._cls.__name__} has no route for {path}")
        return self._fallback, {}

    async def call(self, event: Call) -> bytes:
        """The encoded result of a method. Raises `Invalid` for an unknown method or arguments that do not fit."""
        method = find_method(self._methods, event.method, self._cls)
        arguments, keywords = method.bind(event.arguments)
        if event.idempotency_key is None:
            return await self._run(method, arguments, keywords)
        with self._deriving(method.where, event.idempotency_key):
            return await self._run(method, arguments, keywords)

    async def _run(self, method: Method, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bytes:
        token = CURRENT_ENV.set(self._env)
        try:
            result = await method.function(self._service, *arguments, **keywords)
        finally:
            CURRENT_ENV.reset(token)
        return method.encode_result(result)

    @contextmanager
    def _deriving(self, where: str, key: str) -> Iterator[None]:
        """Give the calls that the block makes keys of their own, derived from `key`."""
        token = DERIVED.set(DerivedKeys(self._name, where, key))
        try:
            yield
        finally:
            DERIVED.reset(token)


class _AppRunner:
    def __init__(self, name: str, app: ASGIApp, env: Env) -> None:
        if not callable(app):
            raise Invalid(f"service {name!r}: {type(app).__name__} is neither a subclass of Service nor an ASGI application")
        self._name = name
        self._app = app
        self._env = env
        self._lifespan: Lifespan | None = None

    async def start(self, tasks: Tasks) -> None:
        lifespan = Lifespan(self._app, self._env, self._name)
        await lifespan.start(tasks)
        self._lifespan = lifespan

    async def close(self) -> None:
        if self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            await lifespan.close()

    async def fetch(self, event: Fetch) -> Response:
        """A response that runs the application when it is sent."""
        if event.idempotency_key is not None:
            raise Invalid(f"service {self._name!r} is an ASGI application: it cannot be called with an idempotency key")
        return AsgiResponse(self._app, event, self._env, self._lifespan.state if self._lifespan is not None else None)

    async def call(self, event: Call) -> bytes:
        raise Invalid(f"service {self._name!r} is an ASGI application and has no callable methods; use its fetch()")
