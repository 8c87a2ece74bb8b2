"""The way in to a public actor: its class looks at the request first, without an instance and without a turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Message, Receive

from stead.api import CURRENT_ENV, Env, HTTPException, Request, Response
from stead.errors import SteadError
from stead.events import Fetch, Handover
from stead.ids import ActorId
from stead.runtime.classes import ActorClass, Before
from stead.runtime.failures import message_of
from stead.runtime.responses import InvalidResponse, make_request
from stead.runtime.stubs import fetch_event

Deliver = Callable[[ActorId, Fetch], Awaitable[Response]]


class Parties:
    """Answers requests and handshakes that come to actors from outside."""

    def __init__(self, classes: Mapping[str, ActorClass], env: Env, deliver: Deliver) -> None:
        self._classes = classes
        self._env = env
        self._deliver = deliver

    async def visit(self, actor: ActorId, event: Fetch, *, is_handshake: bool) -> Response:
        """The answer of the class, or of the actor: to a handshake a `Handover`. Raises 404 for what the class does not serve."""
        actor_class = self._classes.get(actor.unit)
        if actor_class is None:
            raise HTTPException(404, f"there is no actor unit {actor.unit!r}")
        if is_handshake:
            actor_class.check_admits_sockets()
        elif not actor_class.fetches:
            raise HTTPException(404, f"{actor_class.cls.__name__} has no fetch()")
        before = actor_class.before_connect if is_handshake else actor_class.before_request
        if before is not None:
            answer = await self._ask(before, event)
            if isinstance(answer, Response):
                return answer
            event = answer
        return Handover(actor, event.scope) if is_handshake else await self._deliver(actor, event)

    async def _ask(self, before: Before, event: Fetch) -> Response | Fetch:
        """What a class makes of a request: an answer, or the request that goes on."""
        request = make_request(event.scope, event.receive)
        token = CURRENT_ENV.set(self._env)
        try:
            answer = await before(request, self._env)
        except (HTTPException, SteadError):
            raise
        except Exception as exc:  # whatever the application raises is a refusal
            raise HTTPException(401, message_of(exc)) from exc
        finally:
            CURRENT_ENV.reset(token)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            answer = request
        if not isinstance(answer, Request):
            raise InvalidResponse(
                f"{before.__qualname__} returned a {type(answer).__qualname__}; return a Request, a Response or None"
            )
        onward = fetch_event(answer, event.chain)
        return Fetch(onward.scope, _with_body(answer), event.chain)


def _with_body(request: Request) -> Receive:
    """What streams the request's body, from its beginning if it was read already."""
    body: Any = getattr(request, "_body", None)
    if body is None:
        return request.receive
    is_sent = False

    async def receive() -> Message:
        nonlocal is_sent
        if is_sent:
            return await request.receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
