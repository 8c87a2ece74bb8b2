"""The messages of y-protocols as bytes, and back: lib0's variable-length integers, the sync steps, awareness, auth.

No I/O and no document: what a message says, not what it means for one. Bytes from outside are hostile, so every length is compared
with what is there before anything is cut or counted, and all that can be wrong with a message is `Malformed`. What follows a
message's payload is ignored, as lib0 ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple, NoReturn

from stead.errors import Invalid

VARUINT_MAX = (1 << 53) - 1  # what a JavaScript client can hold exactly; lib0 refuses more
CLOCK_MAX = VARUINT_MAX - 1  # a client that is removed is told of with its clock + 1
GONE = b"null"  # the state of a client that has left

_VARINT_BYTES_MAX = 10  # of 64 bits
_SYNC, _AWARENESS, _AUTH, _QUERY = range(4)
_PERMISSION_DENIED = 0


class Malformed(Invalid):
    """The message is not one of y-protocols."""


class Kind(Enum):
    """What a message is."""

    STEP1 = auto()  # payload: the state vector of who asks
    STEP2 = auto()  # payload: an update that answers a step 1
    UPDATE = auto()  # payload: an update
    AWARENESS = auto()  # payload: for `read_clients`
    QUERY = auto()
    UNKNOWN = auto()  # to be ignored


class Message(NamedTuple):
    """A message of which the outer layer is read."""

    kind: Kind
    payload: bytes = b""


class Client(NamedTuple):
    """A client as an awareness message tells of it: `state` is JSON text in UTF-8, `GONE` when it has left."""

    client: int
    clock: int
    state: bytes

    @property
    def is_gone(self) -> bool:
        return self.state == GONE


_SYNC_KINDS = (Kind.STEP1, Kind.STEP2, Kind.UPDATE)


class Reader:
    """Takes values off the front of `data`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def varuint(self) -> int:
        """Seven bits a byte, the lowest first; the eighth says that more follow."""
        value = shift = 0
        data, at = self._data, self._at
        while at < len(data):
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if value > VARUINT_MAX:
                raise Malformed("an integer is over 2**53 - 1")
            if byte < 0x80:
                self._at = at
                return value
            shift += 7
            if shift > 56:
                raise Malformed("an integer has more than 8 bytes")
        raise Malformed("the message ends inside an integer")

    def varint(self) -> None:
        """Skip an integer with a sign: as many bytes as say that more follow, and one."""
        for _ in range(_VARINT_BYTES_MAX):
            if self.byte() < 0x80:
                return
        raise Malformed(f"an integer has more than {_VARINT_BYTES_MAX} bytes")

    def byte(self) -> int:
        self.skip(1)
        return self._data[self._at - 1]

    def skip(self, length: int) -> None:
        if length > self.left:
            raise Malformed(f"a length of {length:,} where {self.left:,} bytes are left")
        self._at += length

    def count(self, what: str) -> int:
        """How many follow, of things that take a byte at least."""
        count = self.varuint()
        if count > self.left:
            raise Malformed(f"{count:,} {what} in {self.left:,} bytes")
        return count

    def bytes(self) -> bytes:
        """A length and that many bytes."""
        length = self.varuint()
        start = self._at
        self.skip(length)
        return self._data[start : self._at]

    def text(self) -> str:
        """A length and that many bytes of UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as exc:
            raise Malformed(f"text must be UTF-8: {exc.reason}") from exc


def read_message(data: bytes) -> Message:
    """The message in a binary frame. Raises `Malformed`."""
    reader = Reader(data)
    outer = reader.varuint()
    if outer == _SYNC:
        inner = reader.varuint()
        return Message(_SYNC_KINDS[inner], reader.bytes()) if inner < len(_SYNC_KINDS) else Message(Kind.UNKNOWN)
    if outer == _AWARENESS:
        return Message(Kind.AWARENESS, reader.bytes())
    return Message(Kind.QUERY if outer == _QUERY else Kind.UNKNOWN)


def read_clients(payload: bytes) -> list[Client]:
    """The clients in the payload of an awareness message. Raises `Malformed`, also for a state that is not JSON."""
    reader = Reader(payload)
    count = reader.varuint()
    if count * 3 > reader.left:  # a client takes three bytes at least
        raise Malformed(f"{count:,} clients in {reader.left:,} bytes")
    return [_read_client(reader) for _ in range(count)]


def _read_client(reader: Reader) -> Client:
    client, clock, state = reader.varuint(), reader.varuint(), reader.bytes()
    if clock > CLOCK_MAX:
        raise Malformed("a client's clock is over 2**53 - 2")
    try:
        # Whoever gets the state parses it, and a client that cannot loses its connection: so it must be what JSON.parse takes.
        value = json.loads(state.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise Malformed("a client's state is not JSON") from exc
    return Client(client, clock, GONE if value is None else state)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def varuint(value: int) -> bytes:
    """An integer as lib0 writes it."""
    if value < 0x80:
        return bytes((value,))
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _sized(data: bytes) -> bytes:
    return varuint(len(data)) + data


def step1(state: bytes) -> bytes:
    """Asks for what is beyond the state vector `state`."""
    return b"\0\0" + _sized(state)


def step2(update: bytes) -> bytes:
    """Answers a step 1."""
    return b"\0\1" + _sized(update)


def update(update: bytes) -> bytes:
    """Tells of a change."""
    return b"\0\2" + _sized(update)


def awareness(clients: Iterable[Client]) -> bytes:
    """Tells of clients."""
    told = [varuint(client) + varuint(clock) + _sized(state) for client, clock, state in clients]
    return bytes((_AWARENESS,)) + _sized(varuint(len(told)) + b"".join(told))


def query() -> bytes:
    """Asks for the clients that the other side knows."""
    return bytes((_QUERY,))


def denied(reason: str) -> bytes:
    """Says that something was not permitted."""
    return bytes((_AUTH, _PERMISSION_DENIED)) + _sized(reason.encode())
