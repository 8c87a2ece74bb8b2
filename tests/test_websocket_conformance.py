"""RFC 6455, section by section: what a client may send, what it may not, and what it gets for it.

The cases are those that conformance suites try. Each is sent whole, byte by byte, and cut at random; the property at the end makes
sequences of frames and compares with a model and with the library of websockets, which is an implementation of its own.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from stead.gateway import SocketLimits
from stead.gateway.edge.frames import Control, FrameReader, Violation, encode_close, encode_message, parse_close
from stead.testing import run
from tests.edges import Doorkeeper, World, close, frame, text, until

CONT, TEXT, BINARY, PING, PONG, CLOSE = Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.CLOSE
LIMIT = 1_000_000
CUTS = (1, 2, 3, 7, 1_000_000_000)  # bytes that arrive together


def raw(head: int, payload: bytes = b"", *, masked: bool = True, length: bytes | None = None) -> bytes:
    """Any frame at all: `head` is its first byte, `length` what it says of its size."""
    size = bytes((len(payload),)) if length is None else length
    second = bytes((size[0] | (0x80 if masked else 0),)) + size[1:]
    return bytes((head,)) + second + (bytes(4) + payload if masked else payload)


def read(parts: Iterable[bytes], limit: int = LIMIT) -> tuple[list[Any], int | None]:
    """What a reader makes of bytes that come in parts: its messages and controls, and the code it stops with."""
    reader, found = FrameReader(limit), []
    try:
        for part in parts:
            reader.feed(part)
            while (item := reader.read()) is not None:
                found.append(item)
                if isinstance(item, Control) and item.opcode == CLOSE:
                    return found, parse_close(item.payload)[0]
    except Violation as exc:
        return found, exc.code
    return found, None


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


SIZES = (0, 1, 125, 126, 127, 128, 4095, 4096, 65_535, 65_536, 70_000)
ACCEPTED: list[tuple[str, bytes, list[Any]]] = [
    *((f"1.1 text of {size}", text("*" * size), ["*" * size]) for size in SIZES),
    *((f"1.2 binary of {size}", frame(BINARY, b"\xfe" * size), [b"\xfe" * size]) for size in SIZES),
    ("1.3 a length with more digits than it needs", raw(0x81, b"ab", length=b"\x7e\x00\x02"), ["ab"]),
    ("1.4 the same with eight", raw(0x82, b"ab", length=b"\x7f" + struct.pack("!Q", 2)), [b"ab"]),
    *((f"2.1 a ping of {size}", frame(PING, b"p" * size), [Control(PING, b"p" * size)]) for size in (0, 1, 125)),
    ("2.2 a pong that nobody asked for", frame(PONG, b"x") + text("a"), [Control(PONG, b"x"), "a"]),
    ("2.3 ten pings", frame(PING, b"x") * 10, [Control(PING, b"x")] * 10),
    ("5.1 two fragments", frame(TEXT, "a", fin=False) + frame(CONT, "b"), ["ab"]),
    ("5.2 a ping between them", frame(TEXT, "a", fin=False) + frame(PING) + frame(CONT, "b"), [Control(PING, b""), "ab"]),
    ("5.3 fragments that are empty", frame(BINARY, fin=False) + frame(CONT, fin=False) * 50 + frame(CONT), [b""]),
    ("5.4 many fragments", frame(TEXT, "x", fin=False) + frame(CONT, "x", fin=False) * 500 + frame(CONT, "x"), ["x" * 502]),
    ("5.5 one message after another", (frame(TEXT, "a", fin=False) + frame(CONT, "b")) * 2 + text("c"), ["ab", "ab", "c"]),
    ("6.1 a character over two fragments", frame(TEXT, b"\xe2\x82", fin=False) + frame(CONT, b"\xac"), ["€"]),
    ("6.2 in three", frame(TEXT, b"\xf0", fin=False) + frame(CONT, b"\x9f", fin=False) + frame(CONT, b"\x98\x80"), ["😀"]),
    ("6.3 the last character, NUL and a byte order mark", text("\U0010ffff\0\ufeff"), ["\U0010ffff\0\ufeff"]),
    ("6.4 binary that is no text", frame(BINARY, b"\xff\xfe\xed\xa0\x80"), [b"\xff\xfe\xed\xa0\x80"]),
]  # fmt: skip

FAR = b"\x7f" + struct.pack("!Q", 2**31)
REFUSED: list[tuple[str, bytes, int]] = [
    *((f"3 reserved bit {bit:#x}", raw(0x81 | bit, b"a"), 1002) for bit in (0x10, 0x20, 0x40, 0x70)),
    ("3 a reserved bit on a ping", raw(0xC9), 1002),
    *((f"4 opcode {opcode:#x}", raw(0x80 | opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ("4 an opcode that is reserved, in fragments", raw(0x03, b"a"), 1002),
    ("a frame without a mask", raw(0x81, b"a", masked=False), 1002),
    ("a ping without a mask", raw(0x89, masked=False), 1002),
    ("2.5 a ping of 126", raw(0x89, bytes(126), length=b"\x7e\x00\x7e"), 1002),
    ("2.6 a ping that says it is long, and has not come yet", raw(0x89, length=b"\x7e")[:2], 1002),
    ("7 a close of 126", raw(0x88, bytes(126), length=b"\x7e\x00\x7e"), 1002),
    ("a ping in fragments", raw(0x09), 1002),
    ("a close in fragments", raw(0x08), 1002),
    ("5 a continuation of nothing", frame(CONT, "a"), 1002),
    ("5 a continuation of what was whole", text("a") + frame(CONT, "b"), 1002),
    ("5 a continuation of nothing, to be continued", frame(CONT, "a", fin=False), 1002),
    ("5 a new message in the middle of one", frame(TEXT, "a", fin=False) + text("b"), 1002),
    ("5 another kind in the middle of one", frame(TEXT, "a", fin=False) + frame(BINARY, b"b", fin=False), 1002),
    ("6 a byte that no character begins with", frame(TEXT, b"\xff"), 1007),
    ("6 half a character", frame(TEXT, b"\xe2\x82"), 1007),
    ("6 half a character at the end of fragments", frame(TEXT, b"a", fin=False) + frame(CONT, b"\xe2\x82"), 1007),
    ("6 a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
    ("6 a character in too many bytes", frame(TEXT, b"\xc0\xaf"), 1007),
    ("6 beyond the last character", frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    ("9 a message over the limit", frame(BINARY, bytes(LIMIT + 1)), 1009),
    ("9 two GiB, announced only", raw(0x82, length=FAR)[:10], 1009),
    ("9 the longest length there is", raw(0x82, length=b"\x7f" + b"\xff" * 8)[:10], 1009),
    ("9 fragments over the limit together", frame(BINARY, bytes(LIMIT), fin=False) + frame(CONT, b"x"), 1009),
    ("9 text over the limit", raw(0x81, length=FAR)[:10], 1009),
    ("7.3 a close of one byte", frame(CLOSE, b"\x03"), 1002),
    ("7.5 a reason that is not UTF-8", close(1000, b"\xff"), 1007),
    *((f"7.9 code {code}", close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "items"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_what_may_be_sent_is_understood(data: bytes, items: list[Any]) -> None:
    for size in CUTS:
        found, code = read(cut(data, size))
        assert (found, code) == (items, None)
        assert list(map(type, found)) == list(map(type, items))


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_may_not_be_sent_is_refused(data: bytes, code: int) -> None:
    """With the code of RFC 6455, section 7.4.1, wherever it is cut."""
    for size in CUTS if len(data) < LIMIT else CUTS[-1:]:
        assert read(cut(data, size))[1] == code


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_a_code_that_exists_is_taken_and_can_be_sent(code: int) -> None:
    assert read(cut(close(code, b"why"), 1))[1] == code
    assert encode_close(code, "why")[2:] == struct.pack("!H", code) + b"why"


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_does_not_exist_is_not_sent(code: int) -> None:
    with pytest.raises(AssertionError):
        encode_close(code, "")


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_client_that_breaks_a_rule_is_told_and_hung_up_on(data: bytes, code: int) -> None:
    """What it sent before is delivered and answered, what it sends after is thrown away, and the receiver hears the same once."""

    async def scenario(seed: int) -> None:
        keeper = Doorkeeper()
        world = World(keeper, SocketLimits(message_bytes_max=LIMIT), seed)
        client = await world.connect()
        client.send(text("before"), frame(PING, b"1"), data)
        await until(lambda: client.has_eof, limit_s=1.0)
        assert [kind for kind, _ in client.frames()] == ["pong", "close"]
        assert client.frames()[-1][1][0] == code
        client.send(text("after"), close(1000))
        client.transport.close()
        await until(lambda: not world.edge.connections)
        server = keeper.opened[0]
        assert "before" in server.messages
        assert "after" not in server.messages
        assert server.end is not None
        assert server.end[0] == code
        assert isinstance(server.end[2], Violation)

    for seed in range(3):
        run(scenario(seed), seed=seed)


# -- properties --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A frame, possibly one that may not be."""

    opcode: int
    payload: bytes
    fin: bool
    reserved: int = 0
    masked: bool = True

    def encode(self, mask: bytes) -> bytes:
        length = len(self.payload)
        size = bytes((length,)) if length < 126 else b"\x7e" + struct.pack("!H", length)
        head = bytes(((0x80 if self.fin else 0) | self.reserved | self.opcode, size[0] | (0x80 if self.masked else 0))) + size[1:]
        if not self.masked:
            return head + self.payload
        return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(self.payload))


payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=10).map(str.encode),
    st.sampled_from([b"x" * 125, b"x" * 126, b"\xe2\x82", b"\xac", b"y" * 300, struct.pack("!H", 1000), struct.pack("!H", 1005)]),
)
good = st.builds(Sent, st.sampled_from([0, 0, 1, 1, 2, 9, 10]), payloads, st.booleans())
odd = st.builds(
    Sent, st.integers(0, 15), payloads, st.booleans(), st.sampled_from([0, 0, 0, 0x40, 0x10]), st.sampled_from([True] * 9 + [False])
)
MODEL_LIMIT = 400


def model(frames: list[Sent]) -> tuple[list[Any], int | None]:
    """The protocol in the plainest words there are."""
    found: list[Any] = []
    parts: list[bytes] | None = None
    kind = 0
    for sent in frames:
        is_control = sent.opcode >= 8
        if sent.reserved or not sent.masked or sent.opcode in {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}:
            return found, 1002
        if is_control and (not sent.fin or len(sent.payload) > 125):
            return found, 1002
        if not is_control and (sent.opcode == 0) is (parts is None):
            return found, 1002
        if is_control:
            found.append(Control(sent.opcode, sent.payload))
            if sent.opcode == 8:
                return found, model_close(sent.payload)
            continue
        if len(b"".join(parts or [])) + len(sent.payload) > MODEL_LIMIT:
            return found, 1009
        if parts is None:
            parts, kind = [], sent.opcode
        parts.append(sent.payload)
        if sent.fin:
            whole, parts = b"".join(parts), None
            try:
                found.append(whole.decode() if kind == 1 else whole)
            except UnicodeDecodeError:
                return found, 1007
    return found, None


def model_close(payload: bytes) -> int:
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in {*range(1000, 1004), *range(1007, 1015)} or 3000 <= code < 5000):
        return 1002
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return 1007
    return code


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in zip(places, places[1:], strict=False)]


@settings(max_examples=400)
@given(
    st.lists(st.one_of(good, good, good, odd), max_size=12),
    st.lists(st.integers(0, 4000), max_size=8),
    st.binary(min_size=4, max_size=4),
)
def test_any_frames_cut_anywhere_mean_what_the_model_says(frames: list[Sent], cuts: list[int], mask: bytes) -> None:
    data = b"".join(sent.encode(mask) for sent in frames)
    assert read(pieces(data, cuts), MODEL_LIMIT) == model(frames)


@settings(max_examples=400)
@given(
    st.lists(st.one_of(good, good, good, odd), max_size=12),
    st.lists(st.integers(0, 4000), max_size=8),
    st.binary(min_size=4, max_size=4),
)
def test_any_frames_mean_what_another_implementation_says(frames: list[Sent], cuts: list[int], mask: bytes) -> None:
    """That one leaves joining fragments and checking text to its user, so it is told of frames that hold to the rest."""
    data = b"".join(sent.encode(mask) for sent in frames)
    oracle = ServerProtocol(state=OPEN, max_size=MODEL_LIMIT)
    oracle.receive_data(data)
    found, code = read(pieces(data, cuts), MODEL_LIMIT)
    theirs = (oracle.close_rcvd or oracle.close_sent) if oracle.close_sent is not None else None
    if code != 1007:  # text that is none is our own to find
        assert (theirs is None) is (code is None)
        assert theirs is None or theirs.code == code or {int(theirs.code), code} <= {1002, 1007, 1009}, (
            "which fault counts may differ"
        )
    controls = [Control(event.opcode, bytes(event.data)) for event in oracle.events_received() if event.opcode >= 8]  # type: ignore[union-attr]
    ours = [item for item in found if isinstance(item, Control)]
    assert ours[: len(controls)] == controls[: len(ours)]


@settings(max_examples=300)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_at_all_end_in_a_code_or_wait(data: bytes, cuts: list[int]) -> None:
    """Cut anywhere, garbage is judged the same."""
    assert read(pieces(data, cuts), 1000) == read([data], 1000)


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.integers(0, 70_000).map(bytes)))
def test_what_is_sent_is_one_frame_that_another_implementation_reads(message: str | bytes) -> None:
    from_us = encode_message(message)
    reader = ServerProtocol(state=OPEN, max_size=None)
    payload = message.encode() if isinstance(message, str) else message
    reader.receive_data(masked(from_us))
    (event,) = reader.events_received()
    assert event.opcode == (TEXT if isinstance(message, str) else BINARY)  # type: ignore[union-attr]
    assert bytes(event.data) == payload  # type: ignore[union-attr]
    assert event.fin  # type: ignore[union-attr]


def masked(frame_: bytes) -> bytes:
    """A server's frame as a client would have sent it, under the mask that changes nothing."""
    size = frame_[1]
    head = 2 + (2 if size == 126 else 8 if size == 127 else 0)
    return bytes((frame_[0], size | 0x80)) + frame_[2:head] + bytes(4) + frame_[head:]


@pytest.mark.parametrize(
    "data",
    [frame(BINARY, bytes(100_000)), frame(BINARY, b"x", fin=False) + frame(CONT, b"x", fin=False) * 20_000],
    ids=["one frame", "fragments"],
)
def test_what_comes_in_bytes_costs_what_it_holds(data: bytes) -> None:
    """A frame that arrives a byte at a time, or a message in fragments of one byte, is no way to fill a server's memory."""
    reader = FrameReader(LIMIT)
    tracemalloc.start()
    try:
        for part in cut(data[:-1], 1):
            reader.feed(part)
            assert reader.read() is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.3 * len(data)
