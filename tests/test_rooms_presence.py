"""Presence: users who are here, each told of once, whatever their tabs, the actor and the process do."""

from __future__ import annotations

import asyncio

import pytest

from stead import Request, Socket, durable
from stead.client import Disconnected
from stead.clock import sleep
from stead.ids import Chance
from stead.rooms import Presence
from stead.testing import TestApp, TestSocket, check

pytestmark = pytest.mark.usefixtures("clock")
GRACE_S = 5.0


class Lounge(Presence):
    """Tells everybody who came and went, and keeps a log that a roll-back would show in."""

    presence_grace_s = GRACE_S
    hibernate_after_s = 1.0
    log: list[str] = durable(factory=list)

    def presence_user(self, socket: Socket, request: Request) -> str:
        return request.query_params.get("user") or super().presence_user(socket, request)

    async def on_join(self, user: str) -> None:
        self.log.append(f"+{user}")
        self.broadcast({"join": user})

    async def on_leave(self, user: str) -> None:
        self.log.append(f"-{user}")
        self.broadcast({"leave": user})

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send(message)

    async def who(self) -> list[str]:
        return await self.present()

    async def history(self) -> list[str]:
        return self.log


class Forgetful(Lounge):
    """Overrides a hook without its mixin's."""

    def connection_tags(self, socket: Socket, request: Request) -> list[str]:
        return ["mine"]


def lounge() -> TestApp:
    return TestApp.of(actors={"lounge": Lounge, "forgetful": Forgetful})


def at(user: str) -> str:
    return f"/parties/lounge/a?user={user}"


async def test_an_id_that_reads_like_a_user_keeps_nobody_here() -> None:
    """Ids are tags, and clients choose them: a user whose last socket closed leaves, whatever somebody else is called."""
    async with lounge() as app:
        ann = await app.connect(at("ann"))
        async with app.connect(at("bob"), id="presence:ann") as bob:
            await bob.send("hi")  # a round trip: both are here
            assert await bob.receive_json() == {"join": "bob"}
            assert await bob.receive() == "hi"
            await ann.close()
            await sleep(GRACE_S + 1)
            assert await bob.receive_json() == {"leave": "ann"}
            assert await app.env.LOUNGE.get("a").who() == ["bob"]


async def test_tabs_of_one_user_count_once_and_a_reload_is_no_leave() -> None:
    """Joined with the first socket; gone a grace period after the last one; back in between, and nobody was told."""
    async with lounge() as app:
        room = app.env.LOUNGE.get("a")
        first, second = await app.connect(at("ann")), await app.connect(at("ann"))
        bob = await app.connect(at("bob"))
        await bob.send("hi")  # a round trip: all three are here
        assert await bob.receive_json() == {"join": "bob"}
        assert await bob.receive() == "hi"
        assert await room.who() == ["ann", "bob"]
        await first.close()
        await sleep(2 * GRACE_S)
        assert await room.who() == ["ann", "bob"]
        await second.close()
        await sleep(GRACE_S - 1)
        again = await app.connect(at("ann"))
        await sleep(2 * GRACE_S)
        assert await room.who() == ["ann", "bob"]
        await again.close()
        await sleep(GRACE_S + 0.5)
        assert await bob.receive_json() == {"leave": "ann"}
        assert await room.history() == ["+ann", "+bob", "-ann"]
        await bob.close()


async def test_nobody_haunts_a_room_whose_process_died() -> None:
    """A crash ends all sockets unheard: who does not come back has left a grace period after the restart; who does, stayed."""
    async with lounge() as app:
        await app.connect(at("ann"))
        await app.connect(at("bob"))
        await app.crash()
        bob = await app.connect(at("bob"))
        assert await app.env.LOUNGE.get("a").who() == ["ann", "bob"]
        await sleep(GRACE_S + 0.5)
        assert await bob.receive_json() == {"leave": "ann"}
        assert await app.env.LOUNGE.get("a").history() == ["+ann", "+bob", "-ann"]
        await bob.close()


async def test_without_names_each_socket_is_a_user() -> None:
    """The socket's id is the user by default, and a user's name has a bound."""
    async with lounge() as app:
        async with app.connect("/parties/lounge/b", id="s1") as socket:
            assert await socket.receive_json() == {"join": "s1"}
            assert await app.env.LOUNGE.get("b").who() == ["s1"]
        async with app.connect(at("x" * 201)) as socket:
            with pytest.raises(Disconnected) as refused:
                await socket.receive()
            assert (refused.value.code, "1 to 200" in refused.value.reason) == (1011, True)


async def test_a_hook_that_forgets_its_mixin_is_told() -> None:
    """connection_tags without super()'s would leave everybody absent: it is an error instead."""
    async with lounge() as app, app.connect("/parties/forgetful/a") as socket:
        with pytest.raises(Disconnected, match="super"):
            await socket.receive()


def test_joins_and_leaves_alternate_whatever_happens() -> None:
    """Over many seeds of connects, closes, drops, hibernations and crashes each user joins, leaves, joins…, and leaves."""

    async def scenario(seed: int) -> None:
        chance = Chance(seed)
        async with lounge() as app:
            open_sockets: list[TestSocket] = []
            for _ in range(30):
                match chance.below(6):
                    case 0 | 1:
                        open_sockets.append(await app.connect(at(f"u{chance.below(3)}")))
                    case 2 if open_sockets:
                        await open_sockets.pop(chance.below(len(open_sockets))).close()
                    case 3 if open_sockets:
                        open_sockets.pop(chance.below(len(open_sockets))).drop()
                    case 4:
                        await sleep(chance.below(8))
                    case 5 if chance.below(3) == 0:
                        await app.crash()
                        open_sockets.clear()
            for socket in open_sockets:
                socket.drop()
            room = app.env.LOUNGE.get("a")
            await sleep(3 * GRACE_S)
            await room.who()  # after a crash somebody has to start the actor
            await sleep(2 * GRACE_S)
            assert await room.who() == []
            log = await room.history()
            for user in ("u0", "u1", "u2"):
                own = [line[0] for line in log if line[1:] == user]
                assert own == ["+", "-"] * (len(own) // 2), log

    check(scenario, seeds=60)


async def test_many_connect_at_once() -> None:
    """Twenty tabs of one user at the same moment are one join."""
    async with lounge() as app:
        sockets = await asyncio.gather(*(_open(app) for _ in range(20)))
        assert await app.env.LOUNGE.get("a").history() == ["+ann"]
        for socket in sockets:
            await socket.close()


async def _open(app: TestApp) -> TestSocket:
    return await app.connect(at("ann"))
