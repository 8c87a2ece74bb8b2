"""The owner of an actor on another node, as the edge of its connections sees it, over a channel.

Words to the owner need not be kept here: the edge knows what it said about each connection and says all of it again, and the owner
ignores what it knows. What the owner says is counted by the edge and acknowledged now and then, so that the owner keeps little.
"""

from __future__ import annotations

from typing import Any, Protocol

from stead import codec
from stead.cluster.conversation import Conversation
from stead.cluster.sides import EdgeSide
from stead.cluster.wire import MALFORMED, encode
from stead.cluster.words import (
    Back,
    Closes,
    Complete,
    Elsewhere,
    Ended,
    FromEdge,
    FromOwner,
    Gone,
    Handled,
    Heard,
    Joined,
    Keeps,
    Left,
    Moved,
    Opened,
    Said,
    Sent,
    Welcome,
    decode_from_owner,
)
from stead.events import Frame
from stead.runtime import Kept, Stay, packed

HEARD_WORDS, HEARD_BYTES = 32, 64 * 1024  # after so much the edge says what it has heard


class Hears(EdgeSide, Protocol):
    """An edge that knows how much it has heard."""

    words: int  # of this session

    def resume(self, session: int, words: int) -> None:
        """`welcome`, where the owner may go on after so many words."""
        ...

    def ended(self) -> None:
        """The owner took this node for dead."""
        ...

    def lost(self, owner: FarGuests) -> None:
        """The channel to the owner is gone, or the owner does not make sense."""
        ...


class FarGuests:
    """The owner, from its edge on another node: the listener of the edge's conversation."""

    def __init__(self, edge: Hears) -> None:
        self._edge = edge
        self._conversation: Conversation
        self._is_over = False
        self._unsaid_words = self._unsaid_bytes = 0  # heard, and not acknowledged

    def begin(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def join(self, number: int, id: str, scope: dict[str, Any]) -> None:
        self._say(Joined(number, id, codec.encode(scope)))

    def back(self, number: int, message: int, stay: Stay) -> None:
        self._say(Back(number, message, stay.id, stay.uri, list(stay.tags), stay.state, stay.attachment))

    def said(self, number: int, message: int, data: str | bytes) -> None:
        self._say(Said(number, message, data))

    def left(self, number: int, code: int, reason: str, error: Exception | None) -> None:
        self._say(Left(number, code, reason, None if error is None else packed(error)))

    def complete(self) -> None:
        self._say(Complete())

    def elsewhere(self) -> None:
        self._say(Elsewhere())
        self.end()

    def end(self) -> None:
        self._is_over = True
        self._conversation.end()

    def _say(self, word: FromEdge) -> None:
        self._conversation.send(encode(word))

    # -- what the owner says -------------------------------------------------------------------------------------------------------

    def received(self, payload: bytes) -> None:
        self._conversation.consumed(len(payload))
        if self._is_over:
            return
        try:
            word = decode_from_owner(payload)
        except MALFORMED:
            self._conversation.abort()
            self.lost()
            return
        if not isinstance(word, Welcome | Moved | Ended):
            self._edge.words += 1
        self._tell(word)
        self._acknowledge(len(payload))

    def _tell(self, word: FromOwner) -> None:
        edge = self._edge
        match word:
            case Sent(numbers, data):
                frame = Frame(data)
                for number in numbers:
                    edge.sent(number, frame)
            case Handled(messages):
                for number, message in messages:
                    edge.handled(number, message)
            case Keeps(number, state, attachment):
                edge.kept(number, Kept(state, attachment))
            case Opened(number, tags):
                edge.opened(number, tags)
            case Closes(number, code, reason):
                edge.close(number, code, reason)
            case Gone(number):
                edge.gone(number)
            case Welcome(session, words):
                edge.resume(session, words)
            case Moved(owner, remainders):
                self.end()
                edge.moved(owner, remainders)
            case Ended():
                self.end()
                edge.ended()

    def _acknowledge(self, size_bytes: int) -> None:
        self._unsaid_words += 1
        self._unsaid_bytes += size_bytes
        if (self._unsaid_words >= HEARD_WORDS or self._unsaid_bytes >= HEARD_BYTES) and not self._is_over:
            self._unsaid_words = self._unsaid_bytes = 0
            self._say(Heard(self._edge.words))

    def ended(self) -> None:
        self._conversation.end()
        self.lost()

    def lost(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._edge.lost(self)
