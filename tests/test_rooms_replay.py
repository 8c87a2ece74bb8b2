"""Replay: a client that comes back gets what it missed, in order and once, or is told to start over."""

from __future__ import annotations

import asyncio

import pytest

from stead import Socket
from stead.client import Disconnected
from stead.clock import sleep
from stead.ids import Chance
from stead.rooms import Replay
from stead.testing import TestApp, TestSocket, check

pytestmark = pytest.mark.usefixtures("clock")


class Ticker(Replay):
    """Publishes what any socket says."""

    replay_messages_max = 10
    hibernate_after_s = 1.0

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        await self.publish(message)

    async def say(self, text: str) -> int:
        return await self.publish(text)

    async def fail(self, text: str) -> None:
        await self.publish(text)
        raise ValueError(text)

    async def kept(self) -> int:
        return len(await self.storage.list("replay:"))


class Brief(Ticker):
    """Sends forty short messages again."""

    replay_messages_max = 1000
    replay_bytes_max = 40 * len('{"seq":11,"data":"10"}')


def ticker() -> TestApp:
    return TestApp.of(actors={"ticker": Ticker})


async def test_who_comes_back_gets_what_it_missed() -> None:
    """From its number on, before anything later; across hibernation and a crash."""
    async with ticker() as app:
        room = app.env.TICKER.get("a")
        async with app.connect("/parties/ticker/a") as socket:
            assert await socket.receive_json() == {"reset": 0}
            assert await room.say("one") == 1
            assert await socket.receive_json() == {"seq": 1, "data": "one"}
        await room.say("two")
        await room.say("three")
        await sleep(20)
        await app.crash()
        async with app.connect("/parties/ticker/a?since=1") as socket:
            await app.env.TICKER.get("a").say("four")
            assert [await socket.receive_json() for _ in range(3)] == [
                {"seq": 2, "data": "two"},
                {"seq": 3, "data": "three"},
                {"seq": 4, "data": "four"},
            ]


async def test_who_was_away_for_too_long_starts_over() -> None:
    """Past the ring, and with a number that was never given or is none; the ring is bounded."""
    async with ticker() as app:
        room = app.env.TICKER.get("a")
        for number in range(25):
            await room.say(str(number))
        assert await room.kept() == 10
        for since in ("14", "26", "-1", "x", "", "9" * 40):
            async with app.connect(f"/parties/ticker/a?since={since}") as socket:
                assert await socket.receive_json() == {"reset": 25}, since
        async with app.connect("/parties/ticker/a?since=15") as socket:
            assert [(await socket.receive_json())["seq"] for _ in range(10)] == list(range(16, 26))


async def test_who_missed_too_much_starts_over() -> None:
    """Up to its limit all is sent again, past it a reset: never a turn that fails each time that the client comes back."""
    async with TestApp.of(actors={"ticker": Brief}) as app:
        room = app.env.TICKER.get("a")
        for number in range(50):
            await room.say(f"{number:02}")
        async with app.connect("/parties/ticker/a?since=10") as socket:
            assert [(await socket.receive_json())["seq"] for _ in range(40)] == list(range(11, 51))
        async with app.connect("/parties/ticker/a?since=9") as socket:
            assert await socket.receive_json() == {"reset": 50}


async def test_a_ring_that_has_grown_leaves_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a smaller ring has forgotten is a reset, although a larger one would have kept it."""
    async with ticker() as app:
        room = app.env.TICKER.get("a")
        for number in range(25):
            await room.say(str(number))
        monkeypatch.setattr(Ticker, "replay_messages_max", 100)
        async with app.connect("/parties/ticker/a?since=14") as socket:
            assert await socket.receive_json() == {"reset": 25}
        async with app.connect("/parties/ticker/a?since=15") as socket:
            assert (await socket.receive_json())["seq"] == 16


async def test_a_turn_that_fails_publishes_nothing() -> None:
    """Its number is given to the next one, and nobody saw it."""
    async with ticker() as app, app.connect("/parties/ticker/a") as socket:
        room = app.env.TICKER.get("a")
        assert await socket.receive_json() == {"reset": 0}
        with pytest.raises(ValueError):
            await room.fail("never")
        assert await room.say("said") == 1
        assert await socket.receive_json() == {"seq": 1, "data": "said"}


def test_no_gap_and_no_repeat_over_many_seeds() -> None:
    """A client that reconnects with the last number it saw, after drops and crashes, sees each once, or a reset past the ring."""

    async def scenario(seed: int) -> None:
        chance, said = Chance(seed), 0
        async with ticker() as app:
            seen = 0
            socket = await app.connect("/parties/ticker/a?since=0")
            for _ in range(25):
                match chance.below(5):
                    case 0 | 1:
                        said = await app.env.TICKER.get("a").say("x")
                    case 2:
                        socket.drop()
                    case 3 if chance.below(2):
                        await app.crash()
                    case _:
                        await sleep(chance.below(3))
                seen = await _take(socket, seen)
                if not socket.is_open:
                    socket = await app.connect(f"/parties/ticker/a?since={seen}")
            await app.env.TICKER.get("a").say("last")
            while seen <= said:
                seen = await _next(socket, seen)
            assert seen == said + 1
            await socket.close()

    check(scenario, seeds=60)


async def _take(socket: TestSocket, seen: int) -> int:
    """What has arrived already."""
    while True:
        try:
            message = await _soon(socket)
        except (Disconnected, TimeoutError):
            return seen
        seen = _step(message, seen)


async def _next(socket: TestSocket, seen: int) -> int:
    return _step(await socket.receive_json(), seen)


async def _soon(socket: TestSocket) -> dict[str, int]:
    async with asyncio.timeout(1):
        return await socket.receive_json()  # type: ignore[no-any-return]


def _step(message: dict[str, int], seen: int) -> int:
    if "reset" in message:
        assert message["reset"] - seen > Ticker.replay_messages_max or message["reset"] == seen == 0
        return message["reset"]
    assert message["seq"] == seen + 1
    return message["seq"]
