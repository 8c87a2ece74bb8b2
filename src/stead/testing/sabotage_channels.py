"""Planted bugs of the channels between nodes; see `sabotage.py`. In place of a promise each names the property that finds it."""

from __future__ import annotations

import asyncio
from typing import Any

from stead.cluster import handshake
from stead.cluster.channel import Channel
from stead.cluster.conversation import Conversation
from stead.cluster.frames import END
from stead.cluster.greeting import Greeting
from stead.cluster.handshake import Dialled
from stead.cluster.peers import Peer, Peers
from stead.ids import Chance
from stead.testing.planting import Plant, planting

CHANNEL_SABOTAGES: dict[str, Plant] = {}
_plant = planting(CHANNEL_SABOTAGES)


# -- whole, once and in order ----------------------------------------------------------------------------------------------------


@_plant("order", Channel, "_put")
def large_frames_overtake(right: Any) -> Any:
    """A frame that fills a batch goes ahead of what waits in it."""

    def put(self: Channel, kind: int, number: int, value: Any, size_bytes: int) -> None:
        if size_bytes < 20_000 or not self._batch or number in self._batch:
            right(self, kind, number, value, size_bytes)
        else:
            waiting, self._batch = self._batch, []
            right(self, kind, number, value, size_bytes)
            self._flush()
            self._batch = waiting
            asyncio.get_running_loop().call_soon(self._flush)

    return put


@_plant("order", Channel, "put_end")
def end_overtakes(right: Any) -> Any:
    """The end of a conversation goes ahead of its last payloads."""

    def put_end(self: Channel, number: int) -> None:
        self._batch[:0] = (END, number, 0)
        if len(self._batch) == 3:
            asyncio.get_running_loop().call_soon(self._flush)

    return put_end


@_plant("order", Channel, "_flush")
def batch_sent_twice(right: Any) -> Any:
    """A batch that has left stays where it was."""

    def flush(self: Channel) -> None:
        batch = [*self._batch]
        right(self)
        if len(batch) > 6:
            self._batch, self._batch_bytes = batch, 0

    return flush


@_plant("order", Conversation, "_close")
def over_not_forgotten(right: Any) -> Any:
    """A conversation that both sides have ended is kept, until its channel ends and it is lost."""

    def close(self: Conversation, sides: int) -> None:
        self._open = self._open & ~sides or 4

    return close


@_plant("order", Peers, "admit")
def both_dials_stand(right: Any) -> Any:
    """Of two nodes that dial each other at once, each lets the other in."""

    def admit(self: Peers, greeting: Greeting) -> None:
        return

    return admit


# -- the end of a channel --------------------------------------------------------------------------------------------------------


@_plant("end", Channel, "_end")
def loss_untold(right: Any) -> Any:
    """The end of a channel is told to those who opened a conversation, not to those who answer."""

    def end(self: Channel, reason: str) -> None:
        own = {number: talk for number, talk in self._conversations.items() if (number ^ self._next) & 1 == 0}
        self._conversations = own
        right(self, reason)

    return end


@_plant("end", Peers, "_see_to")
def redial_forgotten(right: Any) -> Any:
    """A node is dialled once."""

    def see_to(self: Peers, peer: Peer) -> None:
        if not peer.opened:
            right(self, peer)

    return see_to


@_plant("end", Peers, "enter")
def replaced_not_closed(right: Any) -> Any:
    """A channel that another one replaces is forgotten instead of closed."""

    def enter(self: Peers, greeting: Greeting) -> None:
        peer = self._peers.get(greeting.peer)
        if peer is not None:
            peer.channel = None
        right(self, greeting)

    return enter


@_plant("partition", Channel, "beat")
def silence_not_counted(right: Any) -> Any:
    """A peer may be silent for ever."""

    def beat(self: Channel) -> None:
        self._silent_beats = 0
        right(self)

    return beat


@_plant("partition", Channel, "message")
def beats_not_heard(right: Any) -> Any:
    """Only frames count as life, so who has nothing to say is taken for dead."""

    def message(self: Channel, data: bytes) -> None:
        silent_beats = self._silent_beats
        right(self, data)
        if len(data) < 3:
            self._silent_beats = silent_beats

    return message


# -- windows ---------------------------------------------------------------------------------------------------------------------


@_plant("window", Conversation, "wait_room")
def window_ignored(right: Any) -> Any:
    """Whoever sends need not wait."""

    async def wait_room(self: Conversation) -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0)

    return wait_room


@_plant("window", Conversation, "hear_credit")
def credit_counted_twice(right: Any) -> Any:
    """What the peer has consumed opens the window twice as far."""

    def hear_credit(self: Conversation, size_bytes: int) -> None:
        right(self, 2 * size_bytes)

    return hear_credit


@_plant("window", Conversation, "look_for_room")
def nobody_woken(right: Any) -> Any:
    """Whoever waits for room is not told that there is some."""
    return lambda self: None


# -- the handshake ---------------------------------------------------------------------------------------------------------------


@_plant("handshake", Dialled, "receive")
def proof_not_compared(right: Any) -> Any:
    """Any proof is good."""

    def receive(self: Dialled, data: bytes) -> bytes:
        if not self._said:
            answer: bytes = right(self, data)
            return answer
        self.peer = self.caller
        return handshake._mac(self._keys[0], handshake._DIALLED, self._said)

    return receive


@_plant("handshake", handshake, "_mac")
def roles_left_out(right: Any) -> Any:
    """Both sides prove the key with the same bytes, so each can be given its own."""
    return lambda key, role, said: right(key, b"", said)


@_plant("handshake", Chance, "hex")
def nonces_repeat(right: Any) -> Any:
    """The challenge is always the same, so a recording answers it."""
    return lambda self, size_bytes: "00" * size_bytes
