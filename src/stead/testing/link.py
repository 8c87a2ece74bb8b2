"""A connection between a client and a server in memory: two asyncio transports, and the network between them.

**What is real.** Bytes arrive in order, in a later step of the loop, cut and joined at random by the seed. The network holds
NETWORK_BYTES_MAX in each direction; what does not fit waits in the sender's write buffer, which is what `pause_writing`,
`resume_writing` and `get_write_buffer_size` speak of. `connection_lost` comes once, in a step of its own, and nothing after it. A
reset is noticed by who reads or writes only.

**What is not covered.** TCP's own timeouts: a half-open connection stays so until somebody gives up. A connection that is closed
with unread bytes ends like any other; a real one may reset its peer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context, copy_context

from stead.ids import Chance

NETWORK_BYTES_MAX = 64 * 1024  # in each direction: what the buffers of two sockets hold, at the least
_HIGH_BYTES, _LOW_BYTES = 64 * 1024, 16 * 1024  # where asyncio's own transports begin with pause_writing and resume_writing


class Link:
    """One connection. `client` and `server` are its transports; each protocol has had its `connection_made` when it hears more."""

    def __init__(
        self,
        client: asyncio.BaseProtocol,
        server: asyncio.BaseProtocol,
        chance: Chance,
        client_port: int,
        server_context: Context | None = None,
    ) -> None:
        client_address, server_address = ("127.0.0.1", client_port), ("127.0.0.1", 80)
        context = copy_context()
        self.client = End(client, client_address, server_address, context)
        self.server = End(server, server_address, client_address, server_context or context)
        self._up = Lane(self.client, self.server, chance)
        self._down = Lane(self.server, self.client, chance)
        self._is_half_open = False
        self.server.join(self._down, self._up)
        self.client.join(self._up, self._down)
        self.client.begin()
        asyncio.get_running_loop().call_soon(self.server.begin, context=self.server.context)

    @property
    def is_open(self) -> bool:
        """Whether either side still has its end."""
        return not (self.client.is_lost and self.server.is_lost)

    def drop(self) -> None:
        """Reset the connection: what is under way is lost, and both sides notice."""
        self._cut()
        for end in (self.client, self.server):
            end.reset()

    def half_open(self) -> None:
        """Let nothing through any more, and tell nobody: each side believes that the other is there."""
        self._is_half_open = True
        self._cut()

    def delay(self, up_s: float = 0.0, down_s: float = 0.0) -> None:
        """Make what is sent from now on take that many seconds: `up_s` to the server, `down_s` to the client."""
        self._up.delay_s, self._down.delay_s = up_s, down_s

    def crash_server(self) -> None:
        """Lose the server's process: its side hears nothing any more, the client's is reset if it can be reached."""
        self.server.forget()
        self._cut()
        if not self._is_half_open:
            self.client.reset()

    def _cut(self) -> None:
        for lane in (self._up, self._down):
            lane.cut()


class End(asyncio.Transport):
    """One side's transport. Its protocol is called in `context`, that of its process."""

    def __init__(
        self, protocol: asyncio.BaseProtocol, own_address: tuple[str, int], peer_address: tuple[str, int], context: Context
    ) -> None:
        super().__init__({"sockname": own_address, "peername": peer_address})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self.context = context
        self._out: Lane
        self._in: Lane
        self._high_bytes, self._low_bytes = _HIGH_BYTES, _LOW_BYTES
        self._writing_paused = False
        self._reading_paused = False
        self._eof_written = False
        self._closing = False
        self._broken: OSError | None = None
        self.is_made = False
        self.is_lost = False

    def join(self, out: Lane, into: Lane) -> None:
        self._out, self._in = out, into

    def begin(self) -> None:
        """Tell the protocol of its connection."""
        if not self.is_lost:
            self.is_made = True
            self._protocol.connection_made(self)
            self._notice()
            self._in.go_on()

    # -- the transport, as asyncio describes it ------------------------------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self.is_made and not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._notice()
        self._in.go_on()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high_bytes, self._low_bytes = high, low
        self._limit()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def get_write_buffer_size(self) -> int:
        return len(self._out.unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or self._broken is not None:
            self._notice(writing=True)
            return
        self._out.unsent += data
        self._out.fill()
        self._limit()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._closing or self._eof_written):
            self._eof_written = True
            self._out.end()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._out.unsent:
                self._loop.call_soon(self._lose, None, context=self.context)

    def abort(self) -> None:
        self._out.unsent.clear()
        self._closing = True
        self._loop.call_soon(self._lose, None, context=self.context)

    # -- what the network tells ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Some bytes have arrived."""
        assert isinstance(self._protocol, asyncio.Protocol)
        self._protocol.data_received(data)

    def receive_end(self) -> None:
        """The other side sends no more."""
        assert isinstance(self._protocol, asyncio.Protocol)
        if not self._protocol.eof_received():
            self.close()

    def sent(self) -> None:
        """The network has taken, or delivered, some more of what was written."""
        if self.is_lost:
            return
        self._limit()
        if self._closing and not self._out.unsent:
            self._loop.call_soon(self._lose, None, context=self.context)

    def reset(self) -> None:
        """The connection is broken; so it is noticed as soon as this side reads or writes."""
        if self._broken is None:
            self._broken = ConnectionResetError("the connection was reset (a fault of the test)")
        self._notice()

    def forget(self) -> None:
        """Drop this side without a word to its protocol, whose process is gone."""
        self._closing = self.is_lost = True
        self._out.unsent.clear()

    def _notice(self, writing: bool = False) -> None:
        if self._broken is not None and (writing or self._out.unsent or self.is_reading()):
            self._closing = True
            self._out.unsent.clear()
            self._loop.call_soon(self._lose, self._broken, context=self.context)

    def _limit(self) -> None:
        """Tell the protocol when to stop writing and when to go on."""
        size_bytes = len(self._out.unsent)
        if not self._writing_paused and size_bytes > self._high_bytes:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif self._writing_paused and size_bytes <= self._low_bytes:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _lose(self, error: OSError | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            if self.is_made:
                self._protocol.connection_lost(error)
            self._out.end()
            self._in.go_on()


class Lane:
    """One direction of a link: `unsent` is the sender's write buffer, what has left it is under way or has arrived."""

    def __init__(self, sender: End, receiver: End, chance: Chance) -> None:
        self.unsent = bytearray()
        self.delay_s = 0.0
        self._sender = sender
        self._receiver = receiver
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes]] = deque()  # with the moment of arrival
        self._arrived = bytearray()
        self._held_bytes = 0  # under way or arrived
        self._ends = False  # after what is unsent
        self._end_s: float | None = None  # the end's own arrival
        self._is_cut = False
        self._step: asyncio.Handle | None = None

    def fill(self) -> None:
        """Send what the network has room for."""
        room_bytes = NETWORK_BYTES_MAX - self._held_bytes
        if self.unsent and room_bytes > 0:
            data = bytes(self.unsent[:room_bytes])
            del self.unsent[:room_bytes]
            self._held_bytes += len(data)
            self._under_way.append((self._arrival_s(), data))
        if self._ends and not self.unsent and self._end_s is None:
            self._end_s = self._arrival_s()
        self.go_on()

    def end(self) -> None:
        """Let the receiver know, after all that was written, that nothing more comes."""
        self._ends = True
        self.fill()

    def cut(self) -> None:
        """Let nothing through any more; what is under way stays there."""
        self._is_cut = True

    def go_on(self) -> None:
        """See to it that what can arrive does, in a later step."""
        next_s = self._next_s()
        if self._step is None and next_s is not None and (self._receiver.is_reading() or self._receiver.is_lost):
            if next_s <= self._loop.time():
                self._step = self._loop.call_soon(self._arrive, context=self._receiver.context)
            else:
                self._step = self._loop.call_at(next_s, self._arrive, context=self._receiver.context)

    def _arrive(self) -> None:
        self._step = None
        if self._is_cut:
            return
        while self._under_way and self._under_way[0][0] <= self._loop.time():
            self._arrived += self._under_way.popleft()[1]
        if self._receiver.is_lost:
            self._refuse()
        elif self._receiver.is_reading():
            self._hand_over()
        self.go_on()

    def _hand_over(self) -> None:
        if self._arrived:
            data = bytes(self._arrived[: self._cut_bytes()])
            del self._arrived[: len(data)]
            self._held_bytes -= len(data)
            self._receiver.receive(data)
            self.fill()
            if self._sender.context is self._receiver.context:
                self._sender.sent()
            else:
                self._loop.call_soon(self._sender.sent, context=self._sender.context)
        elif self._end_s is not None and not self._under_way and self._end_s <= self._loop.time():
            self._is_cut = True  # nothing follows the end
            self._receiver.receive_end()

    def _refuse(self) -> None:
        """Nobody is there to read it any more, and the sender is told so."""
        self._is_cut = True
        if self._arrived or self._under_way:
            self._sender.reset()

    def _cut_bytes(self) -> int:
        """All that has arrived half of the time, else any part of it."""
        most = len(self._arrived)
        return most if self._chance.below(2) else 1 + self._chance.below(most)

    def _arrival_s(self) -> float:
        """When what is sent now arrives, if what was sent before it has."""
        return self._loop.time() + self.delay_s

    def _next_s(self) -> float | None:
        if self._is_cut:
            return None
        if self._arrived:
            return self._loop.time()
        if self._under_way:
            return self._under_way[0][0]
        return self._end_s
