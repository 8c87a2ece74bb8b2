"""The messages of y-protocols, and their batches: what is written is read, and hostile bytes are `Malformed`, nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.yjs import Malformed, batches, protocol
from stead.yjs.batches import Batch, Marker, read_marker
from stead.yjs.protocol import CLOCK_MAX, GONE, VARUINT_MAX, Client, Kind, Reader, read_clients, read_message, varuint

STATES = st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3)
NUMBERS = st.integers(0, CLOCK_MAX)


def as_json(state: dict[str, Any] | None) -> bytes:
    return json.dumps(state).encode()


CLIENTS = st.lists(st.builds(Client, NUMBERS, NUMBERS, st.one_of(st.just(GONE), STATES.map(as_json))), max_size=5)


@given(st.integers(0, VARUINT_MAX))
def test_integers_come_back(value: int) -> None:
    """What is written as a varuint is read as the same number, and takes 7 bits a byte."""
    written = varuint(value)
    assert Reader(written).varuint() == value
    assert len(written) == max(1, -(-value.bit_length() // 7))


@given(st.binary(max_size=300))
def test_messages_come_back(payload: bytes) -> None:
    """Each message is read as what it was written as."""
    assert read_message(protocol.step1(payload)) == (Kind.STEP1, payload)
    assert read_message(protocol.step2(payload)) == (Kind.STEP2, payload)
    assert read_message(protocol.update(payload)) == (Kind.UPDATE, payload)
    assert read_message(protocol.query()).kind is Kind.QUERY


@given(CLIENTS)
def test_clients_come_back(clients: list[Client]) -> None:
    """An awareness message tells of the clients that it was made of."""
    message = read_message(protocol.awareness(clients))
    assert message.kind is Kind.AWARENESS
    assert read_clients(message.payload) == clients


def test_bytes_are_those_of_lib0() -> None:
    """The encoding is the one of lib0 and y-protocols, byte for byte (taken from the npm packages)."""
    assert varuint(300) == b"\xac\x02"
    assert protocol.step1(b"\x00") == b"\x00\x00\x01\x00"
    assert protocol.denied("no") == b"\x02\x00\x02no"
    assert protocol.awareness([Client(300, 1, b'{"a":1}')]) == b'\x01\x0c\x01\xac\x02\x01\x07{"a":1}'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends inside an integer"),
        (b"\x80", "ends inside an integer"),
        (b"\x80" * 20, "more than 8 bytes"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\x01", "over 2"),
        (b"\x00", "ends inside an integer"),
        (b"\x00\x02", "ends inside an integer"),
        (b"\x00\x02\x05abcd", "a length of 5 where 4 bytes are left"),
        (b"\x00\x02" + varuint(2**31), "a length of 2,147,483,648 where 0 bytes are left"),
        (b"\x01\x05a", "a length of 5"),
    ],
)
def test_broken_frames_are_named(data: bytes, problem: str) -> None:
    """A truncated integer, a number that JavaScript cannot hold, a length past the end: each is `Malformed` and says so."""
    with pytest.raises(Malformed, match=problem):
        read_message(data)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (varuint(2**31), "2,147,483,648 clients in 0 bytes"),
        (b"\x02\x01\x01\x02{}", "2 clients in 5 bytes"),
        (b"\x01\x01\x01\x09{}", "a length of 9"),
        (b"\x01\x01\x01\x02{]", "not JSON"),
        (b"\x01\x01\x01\x03NaN", "not JSON"),
        (b"\x01\x01\x01\x03\xef\xbb\xbf", "not JSON"),
        (b"\x01\x01\x01\x02\xff\xfe", "not JSON"),
        (b"\x01\x01\x01" + varuint(100_000) + b"[" * 100_000, "not JSON"),
        (b"\x01\x01" + varuint(VARUINT_MAX) + b"\x02{}", "clock"),
    ],
)
def test_broken_clients_are_named(payload: bytes, problem: str) -> None:
    """A count past the end, a state that JSON.parse would not take, a clock without a next one: `Malformed`."""
    with pytest.raises(Malformed, match=problem):
        read_clients(payload)


def test_what_is_unknown_is_no_error() -> None:
    """Types of messages that are not known, and what follows a payload, are for later versions: ignored."""
    assert read_message(b"\x07whatever").kind is Kind.UNKNOWN
    assert read_message(b"\x00\x09whatever").kind is Kind.UNKNOWN
    assert read_message(protocol.update(b"x") + b"more") == (Kind.UPDATE, b"x")
    assert read_message(protocol.denied("no")).kind is Kind.UNKNOWN


def mutated() -> st.SearchStrategy[bytes]:
    """Real messages with a few bytes changed, cut off or put in."""
    real = st.one_of(
        st.binary(max_size=40).map(protocol.update), st.binary(max_size=40).map(protocol.step1), CLIENTS.map(protocol.awareness)
    )

    def change(message: bytes, at: int, junk: bytes, cut: int) -> bytes:
        at %= len(message) + 1
        return message[:at] + junk + message[at + cut :]

    return st.builds(change, real, st.integers(0, 200), st.binary(max_size=6), st.integers(0, 6))


@given(st.one_of(st.binary(max_size=200), mutated()))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    """Whatever arrives is read within its own bytes, or is `Malformed`: no other error."""
    try:
        message = read_message(data)
        assert len(message.payload) < len(data)
        if message.kind is Kind.AWARENESS:
            assert len(read_clients(message.payload)) * 3 <= len(data)
    except Malformed:
        pass


# -- batches ---------------------------------------------------------------------------------------------------------------------


def marker(type: str, size: int, count: int, id: str = "k3") -> Marker:
    text = f'{batches.PREFIX}{{"id":"{id}","type":"{type}","size":{size},"count":{count}}}'
    return read_marker(text)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10))
def test_a_batch_is_its_pieces(pieces: list[bytes]) -> None:
    """The pieces between a start and an end that agree are one message."""
    size = sum(map(len, pieces))
    batch = Batch(marker("start", size, len(pieces)))
    for piece in pieces:
        batch.add(piece)
    assert batch.end(marker("end", size, len(pieces))) == b"".join(pieces)


@pytest.mark.parametrize(
    "end", [marker("end", 4, 2, id="other"), marker("end", 5, 2), marker("end", 4, 1), marker("end", 0, 0)], ids=repr
)
def test_an_end_that_tells_of_another_batch_is_malformed(end: Marker) -> None:
    """Id, size and count must be those of the start."""
    batch = Batch(marker("start", 4, 2))
    batch.add(b"ab")
    batch.add(b"cd")
    with pytest.raises(Malformed, match="not what it said"):
        batch.end(end)


def test_a_batch_cannot_be_more_or_less_than_it_said() -> None:
    """One byte or one piece too many is refused as it arrives, so nobody sends more than was announced; too few at the end."""
    for start, pieces in ((marker("start", 3, 2), [b"ab", b"cd"]), (marker("start", 9, 1), [b"ab", b"cd"])):
        batch = Batch(start)
        with pytest.raises(Malformed, match="larger"):
            for piece in pieces:
                batch.add(piece)
    short = Batch(marker("start", 4, 2))
    short.add(b"ab")
    with pytest.raises(Malformed, match="not what"):
        short.end(marker("end", 4, 2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{",
        '{"id":"a","type":"start","size":-1,"count":1}',
        '{"id":"a","type":"start","size":99999999999,"count":1}',
        '{"id":"a","type":"start","size":1,"count":1000000}',
        '{"id":"a","type":"middle","size":1,"count":1}',
        '{"id":7,"type":"start","size":1,"count":1}',
        f'{{"id":"{"a" * 65}","type":"start","size":1,"count":1}}',
        "\ud800",
    ],
)
def test_a_marker_is_checked(text: str) -> None:
    """Whatever is not a marker within the bounds is `Malformed`."""
    with pytest.raises(Malformed):
        read_marker(batches.PREFIX + text)


def test_stead_does_not_need_pycrdt() -> None:
    """pycrdt is an extra: importing stead, and its test kit's application, does not import it; stead.yjs says how to get it."""
    code = "import stead, stead.testing.app, sys; sys.exit('pycrdt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys; sys.modules['pycrdt'] = None; import stead.yjs"
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.stderr.endswith("ModuleNotFoundError: stead.yjs needs pycrdt: pip install 'stead[yjs]'\n")
