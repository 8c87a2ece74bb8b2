"""The channel between two nodes: many conversations on one wire, in one order.

**Order.** What this side puts, whichever conversation it belongs to, arrives in the order in which it was put. Frames of one step
of the loop leave as one batch; a batch that has grown to BATCH_BYTES leaves at once. Pieces of a payload are put without anything
in between, so the peer joins one payload at a time.

**Life.** Its host calls `beat` every BEAT_S. A side that had nothing to say then sends an empty batch, and a side that has heard
nothing in BEATS_MAX beats ends the channel. Beats are counted, not time: who was busy for long first hears what has come meanwhile.

**End.** Whatever ends it, every open conversation is lost, once, and the host hears of it, once, after that.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from stead.cluster.conversation import PAYLOAD_BYTES_MAX, Conversation, Listener
from stead.cluster.frames import (
    ABORT,
    BATCH_BYTES,
    BEAT,
    CREDIT,
    DATA,
    END,
    FRAME_BYTES,
    LAST,
    LAST_DATA,
    LAST_OPEN,
    OPEN,
    PIECE,
    PIECE_BYTES,
    Violation,
    decode_batch,
    encode_batch,
)
from stead.cluster.network import Wire

BEAT_S = 0.5
BEATS_MAX = 3  # without a word: a dead peer is noticed after 1.5 to 2 s
CONVERSATIONS_MAX = 65_536  # that each side may have opened and not finished


class Host(Protocol):
    """Who has a channel, as the channel sees it. No method may raise."""

    def accept(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        """The peer has opened a conversation; returns who hears the rest of it."""
        ...

    def room(self) -> None:
        """The channel was full and has room again."""
        ...

    def ended(self, channel: Channel, reason: str) -> None:
        """The channel has ended. Said once."""
        ...


class Channel:
    """The receiver of an authenticated wire to the node `peer`."""

    def __init__(self, wire: Wire, peer: int, *, is_dialler: bool, host: Host) -> None:
        self.peer = peer
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._conversations: dict[int, Conversation] = {}
        self._next = 1 if is_dialler else 2
        self._peer_next = 2 if is_dialler else 1  # the least number that a conversation which the peer opens may have
        self._own_count = 0  # of open conversations by who opened them
        self._peer_count = 0
        self._batch: list[int | bytes | memoryview] = []
        self._batch_bytes = 0
        self._pieces: bytearray | None = None  # of the payload that is coming
        self._pieces_of = 0
        self._silent_beats = 0
        self._has_sent = False  # since the last beat
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._is_open

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that nothing should be added."""
        return self._wire.is_full

    @property
    def has_room(self) -> bool:
        """Whether a conversation can be opened now."""
        return self._is_open and self._own_count < CONVERSATIONS_MAX and not self._wire.is_full

    def open(self, opening: bytes, listener: Listener) -> Conversation:
        """Begin a conversation; only while the channel `has_room`."""
        assert self.has_room
        number = self._next
        conversation = Conversation(self, number, listener)
        conversation.say(OPEN, opening)
        self._next += 2
        self._own_count += 1
        self._conversations[number] = conversation
        return conversation

    def beat(self) -> None:
        """Give a sign of life if there was none, and end the channel if the peer has given none for too long."""
        if self._silent_beats >= BEATS_MAX:
            self._wire.abort()
            self._end(f"nothing was heard of it for {self._silent_beats * BEAT_S:g} s")
            return
        self._silent_beats += 1
        if not self._has_sent:
            self._wire.write(BEAT)
        self._has_sent = False

    def close(self, reason: str) -> None:
        """End it from this side, behind what was sent."""
        if self._is_open:
            self._flush()
            self._wire.close(reason)
            self._end(reason)

    # -- what conversations put ----------------------------------------------------------------------------------------------------

    def put(self, kind: int, number: int, value: int | bytes) -> None:
        if type(value) is bytes:
            if len(value) > PIECE_BYTES:
                view = memoryview(value)
                last = (len(value) - 1) // PIECE_BYTES * PIECE_BYTES
                for start in range(0, last, PIECE_BYTES):
                    self._put(PIECE, number, view[start : start + PIECE_BYTES], PIECE_BYTES)
                self._put(kind, number, view[last:], len(value) - last)
            else:
                self._put(kind, number, value, len(value))
        else:
            self._put(kind, number, value, 0)

    def put_end(self, number: int) -> None:
        batch = self._batch
        if batch and batch[-2] == number and batch[-3] in {OPEN, DATA}:
            batch[-3] += LAST
        else:
            self._put(END, number, 0, 0)

    def forget(self, number: int) -> None:
        del self._conversations[number]
        if (number ^ self._next) & 1:
            self._peer_count -= 1
        else:
            self._own_count -= 1

    def _put(self, kind: int, number: int, value: int | bytes | memoryview, size_bytes: int) -> None:
        if not self._is_open:
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch += (kind, number, value)
        self._batch_bytes += size_bytes + FRAME_BYTES
        if self._batch_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._batch and self._is_open:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            self._has_sent = True
            self._wire.write(encode_batch(batch))

    # -- what the wire brings ------------------------------------------------------------------------------------------------------

    def message(self, data: bytes) -> None:
        self._silent_beats = 0
        try:
            for kind, number, value in decode_batch(data):
                if type(value) is bytes:
                    self._hear(kind, number, value)
                else:
                    self._note(kind, number, value)  # type: ignore[arg-type]
                if not self._is_open:
                    return
        except Violation as exc:
            self.close(str(exc))

    def room(self) -> None:
        for conversation in list(self._conversations.values()):
            conversation.look_for_room()
        self._host.room()

    def closed(self, reason: str) -> None:
        if self._is_open:
            self._end(reason)

    def _hear(self, kind: int, number: int, value: bytes) -> None:
        """A payload, or a part of one."""
        if self._pieces is not None:
            if number != self._pieces_of:
                raise Violation("it broke off in the middle of a payload")
            self._pieces += value
            if len(self._pieces) > PAYLOAD_BYTES_MAX:
                raise Violation("it sent a payload that is too large")
            if kind == PIECE:
                return
            value, self._pieces = bytes(self._pieces), None
        elif kind == PIECE:
            self._pieces, self._pieces_of = bytearray(value), number
            return
        if kind <= LAST_OPEN:
            self._begin(number, value)
        elif (conversation := self._conversations.get(number)) is not None:
            conversation.hear(value)
        if kind in {LAST_OPEN, LAST_DATA} and (conversation := self._conversations.get(number)) is not None:
            conversation.hear_end()

    def _begin(self, number: int, opening: bytes) -> None:
        if number < self._peer_next or (number ^ self._peer_next) & 1:
            raise Violation(f"it opened the conversation {number} out of order")
        if self._peer_count >= CONVERSATIONS_MAX:
            raise Violation(f"it has more than {CONVERSATIONS_MAX:,} conversations open")
        self._peer_next = number + 2
        self._peer_count += 1
        conversation = self._conversations[number] = Conversation(self, number)
        listener = self._host.accept(self.peer, opening, conversation)
        conversation.join(listener, opening)
        if not self._is_open:
            listener.lost()

    def _note(self, kind: int, number: int, value: int) -> None:
        """A word about a conversation; it may be over on this side already."""
        if self._pieces is not None:
            raise Violation("it broke off in the middle of a payload")
        conversation = self._conversations.get(number)
        if conversation is None:
            return
        if kind == CREDIT:
            if value < 0:
                raise Violation("it took credit back")
            conversation.hear_credit(value)
        elif kind == END:
            conversation.hear_end()
        else:
            assert kind == ABORT
            conversation.lose()

    def _end(self, reason: str) -> None:
        self._is_open = False
        self._batch.clear()
        for conversation in list(self._conversations.values()):
            conversation.lose()
        self._host.ended(self, reason)
