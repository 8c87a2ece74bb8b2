"""The way to one actor that is not here: which node has it, what was sent there, and what waits.

```
forward ─► waiting ─► Line ─────────────────► the owner's node
              ▲         │ Refused: it did not run, nor what was sent behind it
              └─────────┘
```

**Order.** What one line carries arrives in its order. A refusal tells from which event on nothing has run, and ends the line; all
that was sent behind that event counts as refused, whether it has arrived or not. It goes back to the front of the queue, and only
then to the next node. So no event overtakes another on the way, however often it is sent.

**What has run.** An event that was refused has not run. One whose line was lost may have: only what does no harm twice is sent
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from stead.cluster.conversation import Conversation
from stead.cluster.wire import MALFORMED, Answer, Refused, ask, decode_answer, encode
from stead.errors import Ambiguous, Deadlock, EngineFailed, Invalid, SteadError, Unavailable
from stead.events import Call, Event
from stead.ids import ActorId
from stead.runtime import Reply

_NOT_RUN = (Deadlock, EngineFailed, Unavailable)  # errors by which nothing has run
LOST = "the node that has the actor was lost before it answered; read the state before you try again"


class Item:
    """An event on its way. Where it is tried here it is the reply as well, and so it is known if it comes back."""

    __slots__ = ("_reply", "event", "left_s", "may_have_run", "redirects", "size_bytes", "token", "until_s")

    def __init__(self, event: Event, reply: Reply) -> None:
        self.event = event
        self._reply = reply
        self.token = 0  # of the offer of a request's body
        self.until_s = 0.0  # when nobody waits for its node any longer
        self.left_s = 0.0  # when it was sent last, or taken in
        self.may_have_run = False  # it was sent to a node that was lost
        self.redirects = 0
        self.size_bytes = len(event.arguments) if isinstance(event, Call) else 0

    def done(self) -> bool:
        return self._reply.done()

    def set_result(self, value: Any, /) -> None:
        if not self._reply.done():
            self._reply.set_result(value)

    def set_exception(self, error: Any, /) -> None:
        if self.may_have_run and isinstance(error, _NOT_RUN):  # this time; nobody knows of the one before
            error = Ambiguous(f"it was sent to a node that was lost, and now: {error}")
        if not self._reply.done():
            self._reply.set_exception(error)


class Host(Protocol):
    """The router, as routes see it."""

    def token(self, item: Item) -> int:
        """Where the body of a request is offered, 0 for what has none."""
        ...

    def answered(self, line: Line, item: Item, answer: Answer) -> None:
        """The owner has answered."""
        ...

    def settled(self, item: Item, error: BaseException) -> None:
        """Nobody will."""
        ...

    def refused(self, route: Route, items: Sequence[Item], by: int, owner: int) -> None:
        """These have not run, in this order."""
        ...

    def lost(self, route: Route, items: Iterable[Item], by: int) -> None:
        """These may have run, and nobody will answer."""
        ...


class Route:
    """The way to one actor."""

    __slots__ = ("avoid", "is_seeking", "line", "owner", "refusals", "refused_s", "target", "waiting")

    def __init__(self, target: ActorId) -> None:
        self.target = target
        self.owner = 0  # who has it, as far as we heard; 0: nobody said
        self.line: Line | None = None
        self.waiting: deque[Item] = deque()
        self.avoid: set[int] = set()  # nodes that would not take it, or could not be reached
        self.refusals = 0  # of late
        self.refused_s = 0.0  # when the last one came
        self.is_seeking = False

    @property
    def size(self) -> int:
        """How many events wait, or are under way."""
        return len(self.waiting) + (0 if self.line is None else len(self.line.items))

    @property
    def is_idle(self) -> bool:
        return not self.size

    def close(self) -> None:
        """Let the peer forget it. Only when idle."""
        if self.line is not None:
            self.line.conversation.end()
            self.line = None


class Line:
    """Events for one actor on their way to one node, in one conversation. One that is closing waits for answers only."""

    __slots__ = ("_host", "_number", "conversation", "is_closing", "items", "owner", "route")

    conversation: Conversation

    def __init__(self, host: Host, route: Route, owner: int) -> None:
        self._host = host
        self.route = route
        self.owner = owner
        self.items: dict[int, Item] = {}  # sent and not answered, in order
        self.is_closing = False
        self._number = 0

    def send(self, item: Item) -> None:
        """Send an event; one that cannot travel is answered with why."""
        self._number += 1
        try:
            payload = encode(ask(self._number, item.event, self._host.token(item)))
            self.items[self._number] = item
            self.conversation.send(payload)
        except SteadError as exc:
            self.items.pop(self._number, None)
            self._host.settled(item, exc)

    def received(self, payload: bytes) -> None:
        self.conversation.consumed(len(payload))
        try:
            answer = decode_answer(payload)
        except (MALFORMED, Invalid):
            self.conversation.abort()
            self.lost()
            return
        if isinstance(answer, Refused):
            self._end()
            refused = [number for number in self.items if number >= answer.number and number not in answer.kept]
            self._host.refused(self.route, [self.items.pop(number) for number in refused], self.owner, answer.owner)
            if not self.items:
                self.conversation.end()
        elif (item := self.items.pop(answer.number, None)) is not None:
            self._host.answered(self, item, answer)
            if self.is_closing and not self.items and self.route.line is self:
                self._end()
                self.conversation.end()
                self._host.refused(self.route, [], self.owner, 0)

    def ended(self) -> None:
        self.lost()

    def lost(self) -> None:
        is_closed = self.route.line is not self and not self.items  # both sides have ended it
        self._end()
        items, self.items = list(self.items.values()), {}
        if not is_closed:
            self._host.lost(self.route, items, self.owner)

    def _end(self) -> None:
        if self.route.line is self:
            self.route.line = None


def lost_error() -> Ambiguous:
    return Ambiguous(LOST)
