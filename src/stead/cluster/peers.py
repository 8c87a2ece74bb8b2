"""All channels of a node: one to each other node that is alive, dialled until it stands.

**One per pair.** Whoever lacks a channel to a member dials, so both may at once. Then the dial of the smaller incarnation stands: a
node that is dialling a larger one does not let that one in. Else a new channel replaces the one before, which the peer must have
lost, or it would not dial; unless that one is younger than the connection on which the peer comes.

**Who is there** is what `update` says. A channel to a node that is no longer listed ends. A node that nobody has listed yet may
dial before the next list comes: it has just joined. It must be on the second list after that, for the first may have been asked
for before.

Nothing of a channel is kept for its peer: what was under way when it ended is lost, and its listeners know.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from stead import clock
from stead.cluster.channel import BEAT_S, Channel
from stead.cluster.conversation import Conversation, Listener
from stead.cluster.greeting import GREETING_S, OTHERWISE, Greeting
from stead.cluster.handshake import Dialled, Dialler, Refused
from stead.cluster.keys import Keys
from stead.cluster.network import Listening, Network, Receiver, Wire
from stead.cluster.refusals import Refusals
from stead.errors import Invalid
from stead.ids import Chance
from stead.runtime.tasks import Tasks
from stead.storage.membership import Member

GREETINGS_MAX = 64  # wires that were dialled and have not proved themselves; the oldest makes room for the next
GONE_MAX = 1024  # incarnations that are over, and remembered: none comes back
STRANGER_LISTS = 2  # that a node which dialled may be missing from
RETRY_S, RETRY_S_MAX = 0.05, 1.0  # between dials that fail, or channels that end before they have stood for so long; doubling
STOPS = "the node stops"  # why a channel ends where nothing is wrong
_log = logging.getLogger("stead.cluster")


class Unreachable(Exception):
    """No conversation can be opened with the peer now; nothing was sent."""


class Peer:
    """What is known of another node."""

    __slots__ = (
        "absences",
        "address",
        "attempt",
        "channel",
        "dial",
        "incarnation",
        "is_listed",
        "name",
        "opened",
        "opened_s",
        "pause_s",
        "trouble",
    )

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.name = ""
        self.address = ""
        self.is_listed = False
        self.absences = 0  # lists that it was missing from since it came unlisted
        self.channel: Channel | None = None
        self.opened = 0  # which channel of the node this is
        self.opened_s = 0.0  # when, on the loop's clock
        self.pause_s = 0.0  # before the next dial
        self.dial: asyncio.Task[None] | None = None
        self.attempt: asyncio.Future[str] | None = None  # of the dial; None while it waits for the next one
        self.trouble = logging.WARNING  # what it is worth in the log that there is no channel

    def wait_longer(self) -> None:
        self.pause_s = min(max(2 * self.pause_s, RETRY_S), RETRY_S_MAX)

    def stop_dialling(self) -> None:
        if self.dial is not None:
            self.dial.cancel()
        self.dial = self.attempt = None

    def __str__(self) -> str:
        return f"node {self.name or '?'} ({self.incarnation})"


class Peers:
    """Made in the loop it runs on.

    Set `on_conversation` and `on_channel`, `listen`, `become` who the engine says, and `update` with every list.
    """

    on_conversation: Callable[[int, bytes, Conversation], Listener]
    """Called with a peer's incarnation, the opening it sent and this side of the conversation, in the order in which the peer
    opened them; returns who hears the rest. Must not raise."""

    on_channel: Callable[[bool], None]
    """Called when there is a channel that was not, with whether the peer is on the list. Must not raise."""

    def __init__(self, network: Network, keys: Keys, chance: Chance) -> None:
        self.incarnation = 0
        self._network = network
        self._keys = keys
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._listening: Listening | None = None
        self._peers: dict[int, Peer] = {}
        self._gone: deque[int] = deque(maxlen=GONE_MAX)
        self._greetings: dict[Greeting, int] = {}  # that were dialled, oldest first, with the channels opened before
        self._dials: dict[Greeting, asyncio.Future[str]] = {}  # that we began; resolved with why they failed, "" if they did not
        self._opened = 0
        self._news = asyncio.Event()  # replaced each time that it is set
        self._refusals = Refusals()
        self._beat_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    # -- conversations -------------------------------------------------------------------------------------------------------------

    def open(self, incarnation: int, opening: bytes, listener: Listener) -> Conversation:
        """Begin a conversation. Raises `Unreachable` if there is no channel, or too much waits on it: `wait_connected` then."""
        peer = self._peers.get(incarnation)
        if peer is None or peer.channel is None:
            raise Unreachable(f"there is no channel to the node of incarnation {incarnation}")
        if not peer.channel.has_room:
            raise Unreachable(f"too much waits on the channel to {peer}")
        return peer.channel.open(opening, listener)

    def is_connected(self, incarnation: int) -> bool:
        """Whether `open` would begin a conversation now."""
        peer = self._peers.get(incarnation)
        return peer is not None and peer.channel is not None and peer.channel.has_room

    async def wait_connected(self, incarnation: int, timeout_s: float) -> bool:
        """Until `open` would succeed; False if it will not, or that took longer. The incarnation need not be listed yet."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (is_connected := self.is_connected(incarnation)):
                    if self._is_closed or (incarnation in self._gone and incarnation not in self._peers):
                        break
                    await self._news.wait()
        except TimeoutError:
            return False
        return is_connected

    # -- who is there --------------------------------------------------------------------------------------------------------------

    async def listen(self, address: str) -> str:
        """Let others dial at "host:port". Returns the address, with the port that was chosen for 0. Raises `OSError`, `Invalid`."""
        assert self._listening is None
        self._listening = await self._network.listen(address, self._dialled)
        self._beat()
        return self._listening.address

    def become(self, incarnation: int) -> None:
        """This node is that incarnation from now on: the channels of the one before end. 0: it is nobody until the next call."""
        if incarnation != self.incarnation:
            for peer in list(self._peers.values()):
                self._drop(peer, "the node goes on as another incarnation" if incarnation else "the node has no lease")
            for greeting in list(self._greetings):
                greeting.fail("the node goes on as another incarnation")
            self.incarnation = incarnation

    def update(self, members: Sequence[Member]) -> None:
        """Everyone who is alive. Channels to others end, `lost()` is called in here; members without a channel are dialled."""
        if not self.incarnation or self._is_closed:
            return
        others = {member.incarnation: member for member in members if member.incarnation != self.incarnation}
        for peer in list(self._peers.values()):
            if peer.incarnation not in others:
                peer.absences += 1
                if peer.is_listed or peer.absences >= STRANGER_LISTS:
                    self._gone.append(peer.incarnation)
                    self._drop(peer, "it is no member any more" if peer.is_listed else "it is no member")
                    self._wake()
        for member in others.values():
            peer = self._peers.setdefault(member.incarnation, Peer(member.incarnation))
            peer.is_listed, peer.name, peer.address = True, member.info.name, member.info.address
            self._see_to(peer)

    async def close(self) -> None:
        """End every channel and let nobody in any more."""
        self._is_closed = True
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._listening is not None:
            await self._listening.close()
        for greeting in list(self._greetings):
            greeting.fail(STOPS)
        for peer in list(self._peers.values()):
            self._drop(peer, STOPS)
        self._wake()
        await self._tasks.close()

    def _drop(self, peer: Peer, reason: str) -> None:
        del self._peers[peer.incarnation]
        peer.stop_dialling()
        channel, peer.channel = peer.channel, None
        if channel is not None:
            _log.info("the channel to %s ends: %s", peer, reason)
            channel.close(reason)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _beat(self) -> None:
        self._beat_timer = self._loop.call_later(BEAT_S, self._beat)
        for peer in list(self._peers.values()):
            if peer.channel is not None:
                peer.channel.beat()
        self._wake()  # whoever waits for a channel with room looks again

    # -- channels ------------------------------------------------------------------------------------------------------------------

    def accept(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        return self.on_conversation(peer, opening, conversation)

    def room(self) -> None:
        self._wake()

    def ended(self, channel: Channel, reason: str) -> None:
        peer = self._peers.get(channel.peer)
        if peer is None or peer.channel is not channel:
            return
        if reason == STOPS:
            peer.trouble = logging.INFO
        _log.log(peer.trouble, "the channel to %s ended: %s", peer, reason)
        peer.channel = None
        if self._loop.time() - peer.opened_s < RETRY_S_MAX:
            peer.wait_longer()
        else:
            peer.pause_s = 0.0
        if peer.is_listed:
            self._see_to(peer)
        else:
            del self._peers[peer.incarnation]

    # -- dialling ------------------------------------------------------------------------------------------------------------------

    def _see_to(self, peer: Peer) -> None:
        """Dial, unless that is under way or there is a channel."""
        if peer.channel is None and peer.dial is None:
            peer.dial = self._tasks.start(self._dial(peer))

    async def _dial(self, peer: Peer) -> None:
        try:
            failure = ""
            while peer.channel is None:
                if peer.pause_s:
                    await clock.sleep(peer.pause_s * (0.5 + self._chance.fraction() / 2))
                reason = await self._attempt(peer)
                if not reason:
                    continue
                if reason not in {failure, OTHERWISE}:
                    _log.log(peer.trouble, "no channel to %s at %s yet: %s", peer, peer.address, reason)
                    failure = reason
                peer.wait_longer()
        finally:
            if peer.dial is asyncio.current_task():  # it was not stopped, and maybe begun anew
                peer.dial = None

    async def _attempt(self, peer: Peer) -> str:
        """Dial once. Returns why there is no channel, "" if there is one."""
        outcome: asyncio.Future[str] = self._loop.create_future()
        handshake = Dialler(self._keys, self.incarnation, peer.incarnation, self._chance)
        greeting: Greeting | None = None

        def greet(wire: Wire) -> Receiver:
            nonlocal greeting
            greeting = Greeting(wire, handshake, self)
            self._dials[greeting] = outcome
            return greeting

        peer.attempt = outcome
        try:
            async with asyncio.timeout(GREETING_S):
                await self._network.dial(peer.address, greet)
                return await outcome
        except TimeoutError:
            return f"it did not answer within {GREETING_S:g} s"
        except (OSError, Invalid) as exc:  # Invalid: what the member calls its address is none
            return str(exc) or type(exc).__name__
        finally:
            if peer.attempt is outcome:
                peer.attempt = None
            if greeting is not None:
                greeting.abandon()
                self._dials.pop(greeting, None)

    def _dialled(self, wire: Wire) -> Receiver:
        if len(self._greetings) >= GREETINGS_MAX:
            next(iter(self._greetings)).cut_off("too many others want to come in")
        greeting = Greeting(wire, Dialled(self._keys, self.incarnation, self._chance), self)
        self._greetings[greeting] = self._opened
        return greeting

    # -- the door ------------------------------------------------------------------------------------------------------------------

    def admit(self, greeting: Greeting) -> None:
        peer = self._peers.get(greeting.peer)
        if greeting in self._dials:
            if peer is None or peer.attempt is not self._dials[greeting]:  # stopped, and about to end
                raise Refused(OTHERWISE)
            return
        if greeting.peer in self._gone:
            raise Refused("its lease was over")
        if peer is not None:
            has_younger = peer.channel is not None and peer.opened > self._greetings[greeting]
            if has_younger or (peer.attempt is not None and self.incarnation < peer.incarnation):
                raise Refused(OTHERWISE)

    def enter(self, greeting: Greeting) -> None:
        outcome = self._dials.pop(greeting, None)
        peer = self._peers.setdefault(greeting.peer, Peer(greeting.peer))
        before = peer.channel
        peer.channel = Channel(greeting.wire, peer.incarnation, is_dialler=outcome is not None, host=self)
        greeting.wire.receiver = peer.channel
        self._opened += 1
        peer.opened, peer.opened_s = self._opened, self._loop.time()
        if outcome is not None:
            outcome.set_result("")
        else:
            del self._greetings[greeting]
            peer.stop_dialling()
        if before is not None:
            before.close("the peer has dialled anew")
        _log.info("channel to %s at %s", peer, greeting.wire.address)
        self._wake()
        self.on_channel(peer.is_listed)

    def failed(self, greeting: Greeting, reason: str) -> None:
        outcome = self._dials.pop(greeting, None)
        if outcome is not None:
            if not outcome.done():
                outcome.set_result(reason)
        elif self._greetings.pop(greeting, None) is not None and reason != OTHERWISE:
            self._refusals.tell(greeting.wire.address, reason)
