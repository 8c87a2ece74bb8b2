"""One exchange on a channel: payloads in order, both ways, until both sides have ended it.

```
          end()                    the peer's end                    state = what is still open
 BOTH ───────────► HEARING ────────────────────────► OVER
   └──the peer's──► SAYING ──────────end()──────────► OVER           any ──abort(), lost──► OVER
```

**Windows.** A side counts what it has sent and what of it the peer's listener has consumed. `wait_room` waits while WINDOW_BYTES
or more are between the two, or the wire is full; so whoever waits before each payload keeps no more than a window and a payload in
memory, here and there. Every payload counts, the opening too. An exchange of a few small payloads need not care.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from stead.cluster.frames import ABORT, CREDIT, DATA, Violation
from stead.codec import MESSAGE_BYTES_MAX
from stead.errors import Invalid

WINDOW_BYTES = 512 * 1024  # fills a link of 2 Gbit/s with 2 ms of delay
PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX + 64 * 1024  # the largest message of an application, and what is said about it
UNCONSUMED_BYTES_MAX = 2 * PAYLOAD_BYTES_MAX + WINDOW_BYTES  # of one conversation; a peer that sends more does not wait for room

SAYING, HEARING = 1, 2
OVER, BOTH = 0, SAYING | HEARING


class Listener(Protocol):
    """Who hears what the peer says in a conversation. No method may raise."""

    def received(self, payload: bytes) -> None:
        """The next payload."""
        ...

    def ended(self) -> None:
        """The peer's last payload has come."""
        ...

    def lost(self) -> None:
        """No more comes: the channel is gone, or the peer aborted. What was sent may or may not have been handled. Said once."""
        ...


class Deaf:
    """A listener of what nobody waits for: the peer has said all with the opening, or nobody understood that."""

    def received(self, payload: bytes) -> None:
        return

    def ended(self) -> None:
        return

    def lost(self) -> None:
        return


class Outlet(Protocol):
    """What a conversation needs of its channel."""

    @property
    def is_full(self) -> bool:
        """Whether too much waits to be sent on the channel."""
        ...

    def put(self, kind: int, number: int, value: int | bytes) -> None:
        """Send a frame behind all that were put before."""
        ...

    def put_end(self, number: int) -> None:
        """Say that nothing more comes, together with the last payload if that has not left yet."""
        ...

    def forget(self, number: int) -> None:
        """The conversation is over."""
        ...


class Conversation:
    """One side of it. Nothing is sent once this side has ended it or it is over: the listener has heard of that, or need not."""

    __slots__ = ("_consumed_bytes", "_heard_bytes", "_listener", "_number", "_open", "_outlet", "_room", "_sent_bytes")

    def __init__(self, outlet: Outlet, number: int, listener: Listener | None = None) -> None:
        self._listener = listener  # None while the application looks at the opening
        self._outlet = outlet
        self._number = number
        self._open = BOTH
        self._sent_bytes = 0  # that the peer has not consumed
        self._heard_bytes = 0  # that were not consumed here
        self._consumed_bytes = 0  # that the peer has not been told of
        self._room: asyncio.Event | None = None  # made when somebody waits

    @property
    def is_over(self) -> bool:
        """Whether both sides have ended it, or it was aborted or lost."""
        return not self._open

    def send(self, payload: bytes) -> None:
        """Send a payload, behind all that was sent to the peer before. Never blocks. Raises `Invalid` over PAYLOAD_BYTES_MAX."""
        if self._open & SAYING:
            self.say(DATA, payload)

    async def wait_room(self) -> None:
        """Until the peer has consumed enough of what it was sent, and the channel has room; or nothing can be sent any more."""
        while self._open & SAYING and (self._sent_bytes >= WINDOW_BYTES or self._outlet.is_full):
            if self._room is None:
                self._room = asyncio.Event()
            await self._room.wait()

    def consumed(self, size_bytes: int) -> None:
        """Let the peer send so much more: the listener's duty, once it keeps what it was given no longer."""
        self._heard_bytes -= size_bytes
        self._consumed_bytes += size_bytes
        if self._consumed_bytes >= WINDOW_BYTES // 2 and self._open & HEARING:
            self._outlet.put(CREDIT, self._number, self._consumed_bytes)
            self._consumed_bytes = 0

    def end(self) -> None:
        """Nothing more comes from here."""
        if self._open & SAYING:
            self._outlet.put_end(self._number)
            self._close(SAYING)

    def abort(self) -> None:
        """Give up: the peer's listener hears `lost`, the one here nothing more."""
        if self._open:
            self._outlet.put(ABORT, self._number, 0)
            self._close(BOTH)

    # -- what the channel does -----------------------------------------------------------------------------------------------------

    def say(self, kind: int, payload: bytes) -> None:
        """Put a payload with a frame of `kind`."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise Invalid(f"a payload between nodes has {PAYLOAD_BYTES_MAX:,} bytes at most, this one {len(payload):,}")
        self._sent_bytes += len(payload)
        self._outlet.put(kind, self._number, payload)

    def join(self, listener: Listener, opening: bytes) -> None:
        """Hear what comes behind the opening that a peer sent."""
        self._listener = listener
        self._heard_bytes += len(opening)

    def hear(self, payload: bytes) -> None:
        """Hand a payload to the listener; lose the conversation if it keeps too much, or its peer does not wait for room."""
        self.check_hearing()
        self._heard_bytes += len(payload)
        if self._heard_bytes > UNCONSUMED_BYTES_MAX:
            self._outlet.put(ABORT, self._number, 0)
            self.lose()
        else:
            assert self._listener is not None
            self._listener.received(payload)

    def hear_end(self) -> None:
        """Tell the listener that the peer has ended its side."""
        if self._open & HEARING:
            self._close(HEARING)
            assert self._listener is not None
            self._listener.ended()

    def check_hearing(self) -> None:
        """Raise `Violation` if the peer has ended its side."""
        if not self._open & HEARING:
            raise Violation("it went on in a conversation that it had ended")

    def hear_credit(self, size_bytes: int) -> None:
        """The peer's listener has consumed so much."""
        self._sent_bytes -= size_bytes
        self.look_for_room()

    def look_for_room(self) -> None:
        """Wake who waits for room; they look for themselves."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def lose(self) -> None:
        """End it without the peer, and tell the listener."""
        if self._open:
            self._close(BOTH)
            if self._listener is not None:
                self._listener.lost()

    def _close(self, sides: int) -> None:
        self._open &= ~sides
        if not self._open:
            self._outlet.forget(self._number)
        self.look_for_room()
