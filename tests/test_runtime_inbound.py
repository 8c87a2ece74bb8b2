"""How much may come in on sockets: past the bounds clients wait, or are closed."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from stead import Actor, Socket
from stead.testing import Peer, TestApp
from tests.chat import settle

pytestmark = pytest.mark.usefixtures("clock")


class Small(Actor):
    sockets_max = 2
    mailbox_events_max = 8
    hold: ClassVar[asyncio.Event]

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await self.hold.wait()
        self.broadcast(message)

    async def ask(self) -> int:
        return len(self.sockets())


async def test_a_room_has_so_many_sockets() -> None:
    """The next one is refused; one that takes over an id is not, so that a lost client can come back."""
    async with TestApp.of(actors={"small": Small}) as app:
        room = app.env.SMALL.get("s")
        peers = [Peer(app, room, id) for id in "ab"]
        with pytest.raises(Exception, match="2 open sockets") as caught:
            Peer(app, room, "c")
        assert getattr(caught.value, "status", 0) == 503
        peers.append(Peer(app, room, "a"))
        await settle(app)
        assert await room.ask() == 2
        peers[1].leave()
        await settle(app)
        Peer(app, room, "c")


async def test_a_flood_waits_at_the_client() -> None:
    """Half of the mailbox is for messages, so that calls get in; past that clients are paused, and take turns."""
    async with TestApp.of(actors={"small": Small}) as app:
        Small.hold = asyncio.Event()
        room = app.env.SMALL.get("s")
        flood, other = Peer(app, room, "flood"), Peer(app, room, "other")
        await settle(app)
        for number in range(500):
            flood.post(f"flood {number}")
        other.post("other")
        asked = asyncio.gather(*(room.ask() for _ in range(3)))
        await settle(app)
        assert flood.is_paused and flood.unsent == 500 - 5
        Small.hold.set()
        await settle(app)
        assert await asked == [2, 2, 2] and not flood.is_paused
        texts = [str(text) for text in other.received]
        assert [text for text in texts if text != "other"] == [f"flood {number}" for number in range(500)]
        assert texts.index("other") < 10


class Metered(Actor):
    socket_messages_per_s = 5

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send(message)


async def test_who_sends_too_fast_is_closed() -> None:
    async with TestApp.of(actors={"metered": Metered}) as app:
        fast, slow = (Peer(app, app.env.METERED.get("m"), id) for id in ("fast", "slow"))
        for number in range(20):
            slow.post(str(number))
            await app.clock.advance(0.25)
        assert slow.closing is None and len(slow.received) == 20
        for number in range(7):
            fast.post(str(number))
        await settle(app)
        assert fast.closing == (1008, "more than 5 messages a second")
