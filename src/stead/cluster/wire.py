"""What nodes say to each other about actors, as bytes.

A conversation opens with what it is for: events for one actor (`ForActor`), a body that flows (`Pull`), an order (`Move`, `Warm`),
or a farewell (`Leaving`). Events and their answers carry the number that the asker gave them. Values that users made travel as the
codec's bytes; the rest is msgspec's MessagePack, whose tags name the kinds below and no code.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Receive

from stead import codec
from stead.errors import Unavailable
from stead.events import AlarmDue, Call, Chain, Event, Fetch, Handover, Origin, Settled, TurnRef
from stead.ids import parse_id
from stead.runtime import Packed

_Ref = tuple[str, int]  # an actor and the number of its turn


# -- openings ----------------------------------------------------------------------------------------------------------------------


class ForActor(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Events for one actor follow."""

    actor: str


class Pull(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Send what was offered under this token. `asgi` is the version of the spec that a response is to be run by."""

    token: int
    asgi: str = ""


class Move(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Give the actor to the node of that incarnation. Answered with `Done` or `Failed`."""

    actor: str
    to: int


class Warm(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """Bring the actor into memory: who had it gives it to you. Answered with `Done` or `Failed`."""

    actor: str


class Leaving(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Send this node no more events: it stops. Who says nothing more here has heard it."""


class ForSockets(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """The connections of an edge to one actor, which should be with you.

    `edge` is the edge's process. It had them with the owner of `session` before (0: with none that may still be), and heard so many
    words of that.
    """

    actor: str
    edge: int
    session: int
    words: int


class Gather(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """I have claimed the actor: tell me the connections that you have. Ended once that has begun."""

    actor: str


Opening = ForSockets | Gather | ForActor | Pull | Move | Warm | Leaving


# -- events ------------------------------------------------------------------------------------------------------------------------


class AskCall(msgspec.Struct, tag=1, array_like=True, frozen=True):
    number: int
    method: str
    arguments: bytes
    chain: list[_Ref]
    origin: Origin | None
    idempotency_key: str | None


class AskFetch(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """`scope` is encoded. What the client sends besides is offered under `token`, but for a body that is known to be empty."""

    number: int
    scope: bytes
    token: int
    has_body: bool
    chain: list[_Ref]
    idempotency_key: str | None


class AskAlarm(msgspec.Struct, tag=3, array_like=True, frozen=True):
    number: int
    name: str
    due_ms: int


class AskSettled(msgspec.Struct, tag=4, array_like=True, frozen=True):
    number: int
    origin: Origin


Ask = AskCall | AskFetch | AskAlarm | AskSettled


# -- answers -----------------------------------------------------------------------------------------------------------------------


class Done(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The reply to a call, encoded, or None."""

    number: int
    value: bytes | None


class Whole(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A response of given bytes."""

    number: int
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Flowing(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """A response that is run when it is pulled."""

    number: int
    status: int
    headers: list[tuple[bytes, bytes]]
    token: int


class HandedOver(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """A `Handover`, its scope encoded."""

    number: int
    actor: str
    scope: bytes
    subprotocol: str | None
    location_hint: str = ""


class Failed(msgspec.Struct, tag=5, array_like=True, frozen=True):
    number: int
    error: Packed


class Refused(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """The last word: nothing from `number` on has run or will, but for those in `kept`, whose answers came before or come yet.

    `owner` has the actor; 0: somebody else than who says this.
    """

    number: int
    kept: list[int]
    owner: int


Answer = Done | Whole | Flowing | HandedOver | Failed | Refused


# -- bodies ------------------------------------------------------------------------------------------------------------------------


class Head(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The beginning of a response."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Chunk(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A piece of a body."""

    data: bytes
    is_last: bool


class Gone(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The client has disconnected."""


class Broken(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """What made the response has failed."""

    error: Packed


Piece = Head | Chunk | Gone | Broken

encode = msgspec.msgpack.Encoder().encode
decode_opening = msgspec.msgpack.Decoder(Opening).decode
decode_ask = msgspec.msgpack.Decoder(Ask).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_piece = msgspec.msgpack.Decoder(Piece).decode
MALFORMED = msgspec.MsgspecError  # of a peer that speaks another version


def ask(number: int, event: Event, token: int) -> Ask:
    """An event, under a number. `token` is where a request's body is offered. Raises `Unavailable` for what cannot travel."""
    match event:
        case Call(method, arguments, chain, origin, key):
            return AskCall(number, method, arguments, _refs(chain), origin, key)
        case Fetch(scope, _, chain, key):
            return AskFetch(number, codec.encode(scope), token, may_have_body(scope), _refs(chain), key)
        case AlarmDue(name, due_ms):
            return AskAlarm(number, name, due_ms)
        case Settled(origin):
            return AskSettled(number, origin)
    raise Unavailable("the actor is on another node than this connection; connect again")


def event_of(asked: Ask, receive: Receive) -> Event:
    """The event again; `receive` is what a request's body comes by. Raises `Invalid` for what is none."""
    match asked:
        case AskCall(_, method, arguments, chain, origin, key):
            return Call(method, arguments, _chain(chain), origin, key)
        case AskFetch(_, scope, _, _, chain, key):
            return Fetch(codec.decode(scope), receive, _chain(chain), key)
        case AskAlarm(_, name, due_ms):
            return AlarmDue(name, due_ms)
        case AskSettled(_, origin):
            return Settled(origin)


def handed_over(number: int, handover: Handover) -> HandedOver:
    scope = codec.encode(handover.scope)
    return HandedOver(number, handover.actor.text, scope, handover.subprotocol, handover.location_hint)


def handover_of(answer: HandedOver) -> Handover:
    return Handover(parse_id(answer.actor), codec.decode(answer.scope), answer.subprotocol, answer.location_hint)


def may_have_body(scope: dict[str, Any]) -> bool:
    """Whether a request may have a body, by its headers (RFC 9112, section 6.3)."""
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in scope["headers"])


def _refs(chain: Chain) -> list[_Ref]:
    return [(ref.actor.text, ref.number) for ref in chain]


def _chain(refs: list[_Ref]) -> Chain:
    return tuple(TurnRef(parse_id(text), number) for text, number in refs)
