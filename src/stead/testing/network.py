"""Nodes' network in memory: wires between named addresses, with delays by a seed and the faults of a network.

**What is real.** Messages of one direction of a wire arrive in the order in which they were written, each in a step of its own,
after a delay that the seed draws. What a partition holds up arrives after `heal`, as TCP would send it again, if both ends are
still there. A side that lost its wire, or closed it, hears nothing more; the other one learns of it as late as of a message. A full
wire says so.

**What is not covered.** Bytes: messages arrive whole. TCP's own timeouts: a wire through a partition stays until somebody gives it
up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context

from stead import clock
from stead.cluster.network import FULL_BYTES, MESSAGE_BYTES_MAX, ROOM_BYTES, Listening, Receiver, Wire
from stead.ids import Chance

DELAY_S_MAX = 0.005  # of a message, unless a test says otherwise
RESET = "the connection was reset (a fault of the test)"


class MemoryNetwork:
    """`network.host(address)` is the network as the node of that address sees it. Make it in the loop it runs on."""

    def __init__(self, seed: int, delay_s_max: float = DELAY_S_MAX) -> None:
        self.chance = Chance(seed)
        self.delay_s_max = delay_s_max
        self._hosts: dict[str, Host] = {}
        self._wires: list[MemoryWire] = []
        self._cut: set[tuple[str, str]] = set()  # from, to: through which nothing comes
        self._healed = asyncio.Event()  # replaced when it is set

    def host(self, address: str) -> Host:
        """The network of one node."""
        return self._hosts.setdefault(address, Host(self, address))

    def partition(self, left: Iterable[str], right: Iterable[str], *, one_way: bool = False) -> None:
        """Let nothing pass between the addresses of `left` and `right`, until `heal`; `one_way`: from left to right only."""
        right = list(right)
        for a in left:
            for b in right:
                self._cut.add((a, b))
                if not one_way:
                    self._cut.add((b, a))

    def heal(self) -> None:
        """End all partitions: what waited arrives."""
        self._cut.clear()
        self._healed.set()
        self._healed = asyncio.Event()
        for wire in list(self._wires):
            wire.go_on()

    def cut(self, left: str, right: str) -> None:
        """Reset the connections between two addresses; both sides notice."""
        for wire in list(self._wires):
            if {wire.own, wire.address} == {left, right}:
                wire.lose(RESET)

    def silence(self, left: str, right: str) -> None:
        """Let the connections between two addresses carry nothing more, and tell nobody; new ones can be made."""
        for wire in list(self._wires):
            if {wire.own, wire.address} == {left, right}:
                wire.is_silent = True

    def crash(self, address: str) -> None:
        """Lose the process at an address until another listens there: it hears nothing more, its peers' connections are reset."""
        self.host(address).listener = None
        self.host(address).is_down = True
        for wire in list(self._wires):
            if wire.own == address:
                wire.abort()

    def is_cut(self, sender: str, receiver: str) -> bool:
        """Whether a partition is between them."""
        return (sender, receiver) in self._cut

    async def wait_path(self, left: str, right: str) -> None:
        """Until no partition is between them, either way."""
        while self.is_cut(left, right) or self.is_cut(right, left):
            await self._healed.wait()

    def join(self, left: MemoryWire, right: MemoryWire) -> None:
        left.join(right)
        right.join(left)
        self._wires += (left, right)

    def forget(self, wire: MemoryWire) -> None:
        if wire in self._wires:
            self._wires.remove(wire)


class Host:
    """One address of a `MemoryNetwork`: what a node dials and listens with."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.listener: Callable[[Wire], Receiver] | None = None
        self.is_down = False  # its process is lost, and what is left of it reaches nobody
        self._network = network
        self.address = address
        self.context = copy_context()  # of who listens: what arrives here runs in it, so that a process can be frozen

    async def dial(self, address: str, receiver: Callable[[Wire], Receiver]) -> None:
        """Connect to another host, once no partition is in between. Raises `ConnectionRefusedError` if nobody listens there."""
        network = self._network
        await clock.sleep(network.chance.fraction() * network.delay_s_max)
        await network.wait_path(self.address, address)
        if self.is_down:
            raise ConnectionRefusedError(f"the process at {self.address} is lost")
        listener = network.host(address).listener
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        near, far = MemoryWire(network, self.address, address), MemoryWire(network, address, self.address)
        far.context = network.host(address).context
        network.join(near, far)
        far.receiver = far.context.copy().run(listener, far)
        near.receiver = receiver(near)

    async def listen(self, address: str, receiver: Callable[[Wire], Receiver]) -> Listening:
        """Listen at this host's own address, whichever is given."""
        self.listener, self.is_down = receiver, False
        self.context = copy_context()
        return self

    async def close(self) -> None:
        """Listen no more."""
        self.listener = None


class MemoryWire:
    """One end of a connection; what it wrote is in here until it arrives."""

    receiver: Receiver

    def __init__(self, network: MemoryNetwork, own: str, address: str) -> None:
        self.own = own
        self.address = address
        self.is_full = False
        self.is_silent = False  # nothing arrives any more
        self.context = copy_context()  # of whose end this is
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._peer: MemoryWire
        self._sent: deque[tuple[float, bytes | str]] = deque()  # with the moment of arrival; a text is the end, and why
        self._sent_bytes = 0
        self._last_s = 0.0  # when what was written last arrives
        self._is_open = True
        self._step: asyncio.Handle | None = None

    def join(self, peer: MemoryWire) -> None:
        self._peer = peer

    def write(self, message: bytes) -> None:
        assert len(message) <= MESSAGE_BYTES_MAX, f"a message of {len(message):,} bytes; {MESSAGE_BYTES_MAX:,} is the most"
        if self._is_open:
            self._sent_bytes += len(message)
            self.is_full = self.is_full or self._sent_bytes >= FULL_BYTES
            self._put(message)

    def close(self, reason: str) -> None:
        if self._is_open:
            self._is_open = False
            self._put(reason)

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            self._sent.clear()
            self._put(RESET)

    def lose(self, reason: str) -> None:
        """The connection is broken, and this side notices."""
        if self._is_open:
            self._leave()
            self._loop.call_soon(self.receiver.closed, reason, context=self.context)

    def go_on(self) -> None:
        """See to it that what can arrive does, in a later step."""
        if self._step is None and self._sent and not self._is_held:
            at_s = max(self._sent[0][0], self._loop.time())
            self._step = self._loop.call_at(at_s, self._arrive, context=self._peer.context)

    @property
    def _is_held(self) -> bool:
        """Whether nothing that was written arrives now."""
        return self.is_silent or self._network.is_cut(self.own, self.address)

    def _leave(self) -> None:
        """Be over on this side, with all that has not arrived."""
        self._is_open = False
        self._sent.clear()
        self._network.forget(self)

    def _put(self, item: bytes | str) -> None:
        delay_s = self._network.chance.fraction() * self._network.delay_s_max
        self._last_s = max(self._last_s, self._loop.time() + delay_s)
        self._sent.append((self._last_s, item))
        self.go_on()

    def _arrive(self) -> None:
        self._step = None
        if not self._sent or self._is_held:
            return
        item = self._sent.popleft()[1]
        if isinstance(item, bytes):
            self._sent_bytes -= len(item)
        else:
            self._network.forget(self)
        peer = self._peer
        if peer._is_open:
            if isinstance(item, bytes):
                peer.receiver.message(item)
            else:
                peer._leave()
                peer.receiver.closed(item)
        if self.is_full and self._sent_bytes <= ROOM_BYTES:
            self.is_full = False
            self._loop.call_soon(self._tell_room, context=self.context)
        self.go_on()

    def _tell_room(self) -> None:
        if self._is_open:
            self.receiver.room()
