"""An edge on another node, as the owner of its connections sees it, over a channel.

Words to the edge are not lost with a channel. The owner numbers them and keeps those that the edge has not heard; an edge that
comes back says how many it has, and the rest is said again.

What is kept is bounded. An edge that does not listen for so long is told to close those connections, with 1013.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from stead import codec
from stead.cluster.conversation import Conversation
from stead.cluster.sides import OwnerSide
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
    Remainder,
    Said,
    Sent,
    Welcome,
    decode_from_edge,
)
from stead.errors import Invalid
from stead.events import Frame
from stead.runtime import Kept, Stay, unpacked

UNHEARD_BYTES_MAX = 64 * 1024 * 1024  # that wait for one edge: what one turn may send
UNHEARD_WORDS_MAX = 200_000
_WORD_BYTES = 64  # what a word costs beside its message
NUMBERS_MAX = 8192  # of connections, in one word


class Owner(OwnerSide, Protocol):
    """The connections of an edge at their owner, as what comes from that edge goes to them."""

    def away(self) -> None:
        """The channel to the edge is gone."""
        ...

    def overflow(self) -> None:
        """Too much waits for the edge: these connections have missed something."""
        ...


class FarEdge:
    """An edge, from the owner on another node."""

    def __init__(self, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._ear: _Ear | None = None  # while there is a channel
        self._unheard: deque[bytes] = deque()  # the edge may have heard these, or not
        self._unheard_bytes = 0
        self._words = 0  # said in all
        self._frame: Frame | None = None  # to be sent to these, in this step of the loop
        self._numbers: list[int] = []
        self._handled: dict[int, int] = {}
        self._flush_step: asyncio.Handle | None = None
        self._is_overfull = False

    def attach(self, conversation: Conversation) -> _Ear:
        """Speak on this conversation from now on. Returns who hears what comes on it."""
        if self._ear is not None:
            self._ear.conversation.abort()
        self._ear = _Ear(self, conversation)
        return self._ear

    # -- what the owner says -------------------------------------------------------------------------------------------------------

    def welcome(self, session: int) -> None:
        self.welcome_back(session, 0)

    def welcome_back(self, session: int, words: int) -> None:
        """Go on behind so many words that the edge has heard."""
        self.heard(words)
        if self._ear is not None:
            self._ear.conversation.send(encode(Welcome(session, self._words - len(self._unheard))))
            for payload in self._unheard:
                self._ear.conversation.send(payload)

    def sent(self, number: int, frame: Frame) -> None:
        if self._frame is not frame or len(self._numbers) >= NUMBERS_MAX:
            self._flush_frame()
            self._frame = frame
        self._numbers.append(number)
        self._flush_later()

    def handled(self, number: int, message: int) -> None:
        self._handled[number] = message
        self._flush_later()

    def opened(self, number: int, tags: Sequence[str]) -> None:
        self._say(Opened(number, list(tags)))

    def kept(self, number: int, kept: Kept) -> None:
        self._say(Keeps(number, kept.state, kept.attachment))

    def close(self, number: int, code: int, reason: str) -> None:
        self._say(Closes(number, code, reason))

    def gone(self, number: int) -> None:
        self._say(Gone(number))

    def hold(self, number: int, is_held: bool) -> None:
        """Nothing: what waits for its turn is bounded by the edge, too."""

    def moved(self, owner: int, remainders: Sequence[Remainder]) -> None:
        self._flush()
        if self._ear is not None:
            self._ear.conversation.send(encode(Moved(owner, list(remainders))))
        self.end()

    def ended(self) -> None:
        """Tell it that it was taken for dead."""
        if self._ear is not None:
            self._ear.conversation.send(encode(Ended()))
        self.end()

    def end(self) -> None:
        """Say no more."""
        if self._flush_step is not None:
            self._flush_step.cancel()
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.conversation.end()

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _flush_later(self) -> None:
        if self._flush_step is None:
            self._flush_step = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Say what was collected in this step: messages first, then which turns they are from."""
        if self._flush_step is not None:
            self._flush_step.cancel()
            self._flush_step = None
        self._flush_frame()
        if self._handled:
            handled, self._handled = self._handled, {}
            self._put(Handled(list(handled.items())))

    def _flush_frame(self) -> None:
        frame, self._frame = self._frame, None
        if frame is not None:
            numbers, self._numbers = self._numbers, []
            self._put(Sent(numbers, frame.message))

    def _say(self, word: FromOwner) -> None:
        self._flush()
        self._put(word)

    def _put(self, word: FromOwner) -> None:
        payload = encode(word)
        self._words += 1
        self._unheard.append(payload)
        self._unheard_bytes += len(payload) + _WORD_BYTES
        if self._ear is not None:
            self._ear.conversation.send(payload)
        is_full = self._unheard_bytes > UNHEARD_BYTES_MAX or len(self._unheard) > UNHEARD_WORDS_MAX
        if is_full and not self._is_overfull and len(self._unheard) > 1:
            self._is_overfull = True
            self._loop.call_soon(self._overflow)  # whoever sends is in the middle of something, sending to all perhaps

    def _overflow(self) -> None:
        self._unheard.clear()
        self._unheard_bytes = 0
        self._owner.overflow()
        self._is_overfull = False

    # -- what the edge says --------------------------------------------------------------------------------------------------------

    def heard(self, words: int) -> None:
        while self._unheard and self._words - len(self._unheard) < words:
            self._unheard_bytes -= len(self._unheard.popleft()) + _WORD_BYTES

    def tell(self, word: FromEdge) -> None:
        owner = self._owner
        match word:
            case Said(number, message, data):
                owner.said(number, message, data)
            case Heard(words):
                self.heard(words)
            case Joined(number, id, scope):
                owner.join(number, id, codec.decode(scope))
            case Back(number, message, id, uri, tags, state, attachment):
                owner.back(number, message, Stay(id, uri, tags, state, attachment))
            case Left(number, code, reason, error):
                owner.left(number, code, reason, None if error is None else unpacked(error))
            case Complete():
                owner.complete()
            case Elsewhere():
                owner.elsewhere()

    def hears(self, ear: _Ear) -> bool:
        """Whether this is the newest conversation: what comes on another is old."""
        return self._ear is ear

    def quit(self, ear: _Ear, *, is_over: bool) -> None:
        """Nothing more comes by this ear: the edge has no connections any more, or its channel is gone."""
        if self._ear is ear:
            if is_over:
                self._owner.end()
            else:
                self._ear = None
                self._owner.away()


class _Ear:
    """The listener of one conversation, of which an edge may need several, one after the other."""

    def __init__(self, edge: FarEdge, conversation: Conversation) -> None:
        self._edge = edge
        self.conversation = conversation

    def received(self, payload: bytes) -> None:
        self.conversation.consumed(len(payload))
        if not self._edge.hears(self):
            return
        try:
            self._edge.tell(decode_from_edge(payload))
        except (MALFORMED, Invalid):
            self.conversation.abort()
            self._edge.quit(self, is_over=False)

    def ended(self) -> None:
        self.conversation.end()
        self._edge.quit(self, is_over=True)

    def lost(self) -> None:
        self._edge.quit(self, is_over=False)
