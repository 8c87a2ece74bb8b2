"""What an edge and the owner of an actor say to each other about the actor's connections, as bytes.

A connection has a number, which its edge never gives twice for one actor, and each of its messages has one, from 1. Values that
users made travel as the codec's bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stead.runtime import Packed

# -- from the edge -----------------------------------------------------------------------------------------------------------------


class Joined(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """A client has connected; `on_connect` is to run. `scope` is encoded."""

    number: int
    id: str
    scope: bytes


class Back(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A connection that another owner had; `message` is the last of its messages that does not come."""

    number: int
    message: int
    id: str
    uri: str
    tags: list[str]
    state: bytes | None
    attachment: bytes | None


class Said(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """A message of a client."""

    number: int
    message: int
    data: Any  # str or bytes: MessagePack tells them apart, msgspec has no type for both


class Left(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """A connection has ended, and how."""

    number: int
    code: int
    reason: str
    error: Packed | None


class Complete(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """All connections that there are have been told."""


class Heard(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """So many words have come from the owner."""

    words: int


class Elsewhere(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """Another node has claimed the actor, and its connections have gone there. This is the last word."""


FromEdge = Joined | Back | Said | Left | Complete | Heard | Elsewhere


# -- from the owner ----------------------------------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The actor is here. If `session` is the one that the edge named, the owner has its connections still.

    `words` is how many words of the session came before the next one.
    """

    session: int
    words: int


class Sent(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A message to these connections."""

    numbers: list[int]
    data: Any  # str or bytes: MessagePack tells them apart, msgspec has no type for both


class Opened(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """`on_connect` is done."""

    number: int
    tags: list[str]


class Keeps(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """The values of a connection, encoded."""

    number: int
    state: bytes | None
    attachment: bytes | None


class Handled(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """The messages of connections up to these are done."""

    messages: list[tuple[int, int]]


class Closes(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """Close a connection."""

    number: int
    code: int
    reason: str


class Gone(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """The last event of a connection has ended."""

    number: int


class Remainder(msgspec.Struct, array_like=True, frozen=True):
    """What is left of a connection: whether `on_connect` has run, whether it may begin, and the last message that has begun."""

    number: int
    is_opened: bool
    is_unopened: bool
    message: int


class Moved(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """The actor is at `owner`; 0: somewhere else. This is the last word."""

    owner: int
    remainders: list[Remainder]


class Ended(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """The edge was taken for dead, and its connections have ended. This is the last word."""


FromOwner = Ended | Welcome | Sent | Opened | Keeps | Handled | Closes | Gone | Moved

decode_from_edge = msgspec.msgpack.Decoder(FromEdge).decode
decode_from_owner = msgspec.msgpack.Decoder(FromOwner).decode
