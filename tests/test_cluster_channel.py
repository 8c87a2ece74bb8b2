"""Frames and channels without a network: what is written is looked at, and handed over, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.cluster import Conversation, Listener, Receiver
from stead.cluster.channel import CONVERSATIONS_MAX, Channel
from stead.cluster.frames import (
    ABORT,
    BATCH_BYTES,
    BEAT,
    CREDIT,
    DATA,
    END,
    LAST_DATA,
    LAST_OPEN,
    OPEN,
    PIECE,
    PIECE_BYTES,
    Violation,
    decode_batch,
    encode_batch,
)
from stead.cluster.network import MESSAGE_BYTES_MAX
from stead.testing import run
from tests.cluster_nodes import Ear


class Paper:
    """A wire on which everything stays."""

    receiver: Receiver

    def __init__(self) -> None:
        self.address = "paper"
        self.is_full = False
        self.written: list[bytes] = []
        self.closing: str | None = None

    def write(self, message: bytes) -> None:
        assert self.closing is None and len(message) <= MESSAGE_BYTES_MAX
        self.written.append(message)

    def close(self, reason: str) -> None:
        self.closing = reason

    def abort(self) -> None:
        self.closing = "aborted"


class Side:
    """A channel on paper, and what it tells its host."""

    def __init__(self, *, is_dialler: bool) -> None:
        self.wire = Paper()
        self.channel = Channel(self.wire, 7, is_dialler=is_dialler, host=self)
        self.openings: list[bytes] = []
        self.ears: list[Ear] = []
        self.conversations: list[Conversation] = []
        self.ends: list[str] = []

    def accept(self, peer: int, opening: bytes, conversation: Conversation) -> Listener:
        assert peer == 7
        self.openings.append(opening)
        self.conversations.append(conversation)
        self.ears.append(Ear())
        return self.ears[-1]

    def room(self) -> None: ...

    def ended(self, channel: Channel, reason: str) -> None:
        self.ends.append(reason)

    def hear(self, *frames: tuple[int, int, bytes | int]) -> None:
        self.channel.message(encode_batch([item for frame in frames for item in frame]))

    async def said(self) -> list[tuple[int, int, bytes | int]]:
        """The frames that were written, and no longer are."""
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.001)
        frames = [frame for message in self.wire.written for frame in decode_batch(message)]
        self.wire.written.clear()
        return frames


def on_paper(scene: Coroutine[Any, Any, None]) -> None:
    run(scene)


def test_a_step_is_a_message() -> None:
    """All that is said in one step of the loop leaves as one message, an end together with the last payload."""

    async def scene() -> None:
        side = Side(is_dialler=True)
        first = side.channel.open(b"one", Ear())
        second = side.channel.open(b"two", Ear())
        first.send(b"more")
        first.end()
        second.send(b"last")
        third = side.channel.open(b"three", Ear())
        third.end()
        second.end()
        assert side.wire.written == []
        frames = [(OPEN, 1, b"one"), (OPEN, 3, b"two"), (LAST_DATA, 1, b"more"), (DATA, 3, b"last"), (LAST_OPEN, 5, b"three")]
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.001)
        assert len(side.wire.written) == 1
        assert await side.said() == [*frames, (END, 3, 0)]

    on_paper(scene())


@pytest.mark.parametrize("size_bytes", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 5])
def test_payloads_are_cut_and_joined(size_bytes: int) -> None:
    """A payload of any size arrives whole, and no message of the wire is too large."""

    async def scene() -> None:
        here, there = Side(is_dialler=True), Side(is_dialler=False)
        payload = bytes(index * 7 % 251 for index in range(size_bytes))
        conversation = here.channel.open(payload, Ear())
        conversation.send(payload)
        other = here.channel.open(b"behind", Ear())
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.001)
        assert all(len(message) <= 2 * BATCH_BYTES + 100 for message in here.wire.written)
        for message in here.wire.written:
            there.channel.message(message)
        assert there.openings == [payload, b"behind"]
        assert there.ears[0].heard == [payload]
        assert not other.is_over

    on_paper(scene())


def test_a_conversation_ends_when_both_sides_have_ended() -> None:
    """Whoever ends first goes on hearing; then nothing of it is kept."""

    async def scene() -> None:
        side = Side(is_dialler=False)
        side.hear((LAST_OPEN, 1, b"question"), (OPEN, 3, b"other"))
        assert side.openings == [b"question", b"other"] and side.ears[0].has_ended and not side.ears[1].has_ended
        side.conversations[0].send(b"answer")
        side.conversations[0].end()
        side.conversations[1].end()
        assert side.conversations[0].is_over and not side.conversations[1].is_over
        side.hear((DATA, 3, b"late"), (END, 3, 0))
        assert side.conversations[1].is_over and side.ears[1].heard == [b"late"]
        assert side.channel._conversations == {} and side.channel._peer_count == 0
        assert await side.said() == [(LAST_DATA, 1, b"answer"), (END, 3, 0)]
        side.hear((DATA, 3, b"too late"), (CREDIT, 3, 5), (END, 3, 0), (ABORT, 3, 0))
        assert side.ends == []

    on_paper(scene())


def test_beats_keep_a_silent_channel() -> None:
    """Who has said nothing since the last beat says so; who hears nothing for three beats ends the channel at the fourth."""

    async def scene() -> None:
        side = Side(is_dialler=True)
        ear = Ear()
        side.channel.open(b"", ear)
        await side.said()
        side.channel.beat()
        assert side.wire.written == []
        side.channel.beat()
        assert side.wire.written == [BEAT]
        side.channel.message(BEAT)
        for _ in range(3):
            side.channel.beat()
            assert side.ends == [] and side.wire.closing is None
        side.channel.beat()
        assert side.wire.closing == "aborted" and ear.losses == 1
        assert side.ends == ["nothing was heard of it for 1.5 s"]

    on_paper(scene())


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([(OPEN, 2, b"")], id="our own number"),
        pytest.param([(OPEN, 5, b""), (OPEN, 3, b"")], id="a number below the last"),
        pytest.param([(OPEN, 1, b""), (OPEN, 1, b"")], id="a number twice"),
        pytest.param([(OPEN, -1, b"")], id="a negative number"),
        pytest.param([(LAST_OPEN, 1, b""), (DATA, 1, b"")], id="more after the end"),
        pytest.param([(PIECE, 1, b"a"), (DATA, 3, b"b")], id="a payload broken off by another"),
        pytest.param([(PIECE, 1, b"a"), (END, 1, 0)], id="a payload broken off by the end"),
        pytest.param([(OPEN, 1, 0)], id="no payload"),
        pytest.param([(END, 1, b"")], id="a payload where none belongs"),
        pytest.param([(CREDIT, b"1", 1)], id="no number"),
        pytest.param([(8, 1, 0)], id="an unknown kind"),
        pytest.param([(-1, 1, 0)], id="a kind below all"),
        pytest.param([(OPEN, 1, b"")] + [(PIECE, 1, bytes(PIECE_BYTES))] * 514, id="an endless payload"),
        pytest.param([(OPEN, 2 * number + 1, b"") for number in range(CONVERSATIONS_MAX + 1)], id="endless conversations"),
        pytest.param([(OPEN, 1, b""), (CREDIT, 1, -5)], id="negative credit"),
    ],
)
def test_a_peer_that_breaks_the_rules_loses_the_channel(frames: list[tuple[int, Any, Any]]) -> None:
    """At the first frame that is wrong; what was open is lost, and the wire is told why."""

    async def scene() -> None:
        side = Side(is_dialler=False)
        side.hear(*frames)
        assert side.wire.closing == side.ends[0] and side.ends[0].startswith("it ")
        assert len(side.ends) == 1 and all(ear.losses == 1 for ear in side.ears)
        assert not side.channel.is_open
        side.channel.closed("again")
        side.channel.close("again")
        assert len(side.ends) == 1

    on_paper(scene())


FRAMES = st.one_of(
    st.tuples(st.sampled_from([OPEN, LAST_OPEN, DATA, LAST_DATA, PIECE]), st.integers(-3, 9), st.binary(max_size=5)),
    st.tuples(st.sampled_from([END, CREDIT, ABORT, 8]), st.integers(-3, 9), st.integers(-5, 1000)),
)


@given(st.lists(FRAMES, max_size=30), st.lists(st.sampled_from(["send", "end", "abort", "open"]), max_size=10))
def test_whatever_a_peer_says_listeners_can_rely_on(frames: list[tuple[int, int, bytes | int]], acts: list[str]) -> None:
    """No frames make a listener hear anything after its end, or twice of it (`Ear` checks); at the channel's end all have heard."""

    async def scene() -> None:
        side = Side(is_dialler=False)
        mine = []
        for frame, act in zip(frames, [*acts, *[""] * len(frames)], strict=False):
            if side.channel.is_open:
                side.hear(frame)
            if act == "open" and side.channel.has_room:
                mine.append(Ear())
                side.channel.open(b"", mine[-1])
            for conversation in side.conversations[-1:]:
                if act == "send":
                    conversation.send(b"word")
                elif act == "end":
                    conversation.end()
        side.channel.close("the end")
        assert len(side.ends) == 1 and side.channel._conversations == {}
        for ear, conversation in zip(side.ears, side.conversations, strict=True):
            assert conversation.is_over and (ear.losses or ear.has_ended)
        assert all(ear.losses or ear.has_ended for ear in mine)

    on_paper(scene())


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    """Bytes are frames or a `Violation`, nothing else."""
    try:
        list(decode_batch(data))
    except Violation as exc:
        assert str(exc).startswith("it sent")


@pytest.mark.parametrize(
    ("frames", "data"),
    [
        ([], "90"),
        ([(OPEN, 1, b"hi"), (CREDIT, 2, 300)], "960001c40268690602cd012c"),
        ([(LAST_DATA, 70_000, b""), (ABORT, 3, 0)], "9603ce00011170c400070300"),
    ],
)
def test_the_bytes_of_frames(frames: list[tuple[int, int, bytes | int]], data: str) -> None:
    """The format does not change unnoticed: nodes of two versions would speak it to each other."""
    items = [item for frame in frames for item in frame]
    assert encode_batch([*items]).hex() == data
    assert list(decode_batch(bytes.fromhex(data))) == frames
