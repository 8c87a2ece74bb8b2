"""Events that another node sent for an actor, and their answers on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stead.api import Response
from stead.cluster.conversation import Conversation
from stead.cluster.streams import RemoteBody, Streams
from stead.cluster.wire import (
    MALFORMED,
    Answer,
    AskFetch,
    Done,
    Failed,
    Flowing,
    Refused,
    Whole,
    decode_ask,
    encode,
    event_of,
    handed_over,
)
from stead.errors import Invalid
from stead.events import Event, Fetch, Handover
from stead.ids import ActorId
from stead.runtime import is_whole, packed

INLINE_BYTES_MAX = 256 * 1024  # of a response's body that travels with the answer: larger ones must not hold up other answers


class Host(Protocol):
    """The router, as what peers ask sees it."""

    streams: Streams

    def serve(self, served: Served, number: int, event: Event, reply: Answering) -> None:
        """Run an event here, or refuse it."""
        ...


class Served:
    """The events of one peer for one actor."""

    __slots__ = ("_conversation", "_host", "_is_lost", "_is_refused", "_open", "peer", "target")

    def __init__(self, host: Host, peer: int, target: ActorId, conversation: Conversation) -> None:
        self._host = host
        self._conversation = conversation
        self.peer = peer
        self.target = target
        self._open: set[int] = set()  # numbers that wait for an answer
        self._is_refused = self._is_lost = False

    def received(self, payload: bytes) -> None:
        self._conversation.consumed(len(payload))
        if self._is_refused:  # the peer has not heard of it yet, and will send this elsewhere
            return
        try:
            asked = decode_ask(payload)
            body = None
            if isinstance(asked, AskFetch):
                body = RemoteBody(self._host.streams, self.peer, asked.token, asked.has_body)
            event = event_of(asked, body or _no_body)
        except (MALFORMED, Invalid):
            self._conversation.abort()
            self.lost()
            return
        self._open.add(asked.number)
        self._host.serve(self, asked.number, event, Answering(self, asked.number, event, body))

    def ended(self) -> None:
        if not self._open:
            self._conversation.end()

    def lost(self) -> None:
        self._is_lost = True

    def answer(self, answer: Answer) -> None:
        self._open.discard(answer.number)
        if self._is_lost:
            return
        self._conversation.send(encode(answer))
        if self._is_refused and not self._open:
            self._conversation.end()

    def refuse(self, numbers: Sequence[int], owner: int) -> None:
        """These have not run, and nothing behind the first of them will, but for what is under way."""
        self._open.difference_update(numbers)
        if self._is_refused or self._is_lost:
            return
        self._is_refused = True
        first = min(numbers)
        self._conversation.send(encode(Refused(first, sorted(number for number in self._open if number > first), owner)))
        if not self._open:
            self._conversation.end()

    def response(self, number: int, event: Fetch, response: Response, body: RemoteBody) -> Answer:
        """A response as an answer; one that has to be run is offered."""
        if isinstance(response, Handover):
            return handed_over(number, response)
        headers = list(response.raw_headers)
        if is_whole(response) and len(response.body) <= INLINE_BYTES_MAX:
            return Whole(number, response.status_code, headers, bytes(response.body))
        token = self._host.streams.offer_response(response, event.scope, event.receive, body.close)
        return Flowing(number, response.status_code, headers, token)


class Answering:
    """The reply to an event of a peer."""

    __slots__ = ("_body", "_event", "_is_done", "number", "served")

    def __init__(self, served: Served, number: int, event: Event, body: RemoteBody | None) -> None:
        self.served = served
        self.number = number
        self._event = event
        self._body = body
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, value: Any, /) -> None:
        self._is_done = True
        event, body = self._event, self._body
        if isinstance(event, Fetch):
            assert body is not None
            assert isinstance(value, Response)
            answer = self.served.response(self.number, event, value, body)
            if not isinstance(answer, Flowing):
                body.close()
            self.served.answer(answer)
        else:
            self.served.answer(Done(self.number, value))

    def set_exception(self, error: BaseException, /) -> None:
        self._is_done = True
        if self._body is not None:
            self._body.close()
        self.served.answer(Failed(self.number, packed(error)))


async def _no_body() -> Any:  # noqa: RUF029 - ASGI's `receive`
    raise AssertionError("a call has no body")
