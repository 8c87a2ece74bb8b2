"""How two nodes come to trust a wire: each proves that it has the cluster's key, and says which incarnation it is.

```
dialler                                            dialled
  Hello(version, own, wanted, nonce)  ────────────►          is it me that is wanted?
                        ◄────────────  Challenge(version, own, nonce)
  Proof(mac)                          ────────────►          is the mac right?
                        ◄────────────  Proof(mac)            the channel is open
```

A mac is HMAC-SHA256 by the key over the role of its maker and the first two messages, byte by byte. So it proves that whoever has
the key said it, for these two nonces, in this direction: a recording is worth nothing, nor is a message sent back to its maker.
The dialler proves itself first; who has no key learns nothing that a key made. Where no key is set, the key is empty and the wire
must be trusted otherwise (mutual TLS, or loopback).

A node may have several keys, while one takes another's place: the dialler's proof has a mac by each, one behind the other, and who
was dialled answers by the first of its own that made one of them. So two nodes trust each other if they have a key in common.

**What it is not.** It encrypts nothing and signs none of what follows: who can change what passes on the wire can take over a
channel that has no TLS.

No I/O: `receive` takes a message and returns what is to be answered; `peer` is set once the other side is known to be genuine.
"""

from __future__ import annotations

import hmac
from typing import TypeVar

import msgspec

from stead.cluster.keys import KEYS_MAX, Keys
from stead.ids import Chance

VERSION = 1  # of the handshake and of the frames behind it
NONCE_BYTES = MAC_BYTES = 32
NO_KEY: Keys = (b"",)
_DIALLER, _DIALLED = b"dialler", b"dialled"

T = TypeVar("T")


class Refused(Exception):
    """The other side is not let in, or does not let us in; the message says why."""


class Hello(msgspec.Struct, array_like=True):
    """The dialler's first word."""

    version: int
    own: int
    wanted: int
    nonce: bytes


class Challenge(msgspec.Struct, array_like=True):
    """The answer."""

    version: int
    own: int
    nonce: bytes


_pack = msgspec.msgpack.Encoder().encode


class Dialler:
    """The side that dials: `own` and `wanted` are incarnations."""

    def __init__(self, keys: Keys, own: int, wanted: int, chance: Chance) -> None:
        self.peer = 0
        self._keys = keys or NO_KEY
        self._wanted = wanted
        self.hello = _pack(Hello(VERSION, own, wanted, bytes.fromhex(chance.hex(NONCE_BYTES))))
        self._said = b""  # both first messages, once the second has come

    def receive(self, data: bytes) -> bytes:
        """The answer to a message; empty once the channel is open. Raises `Refused`."""
        if not self._said:
            challenge = _read(data, Challenge)
            _check_version(challenge.version)
            if challenge.own != self._wanted:
                raise Refused(f"it is the incarnation {challenge.own}, and {self._wanted} was wanted")
            _check_nonce(challenge.nonce)
            self._said = self.hello + data
            return b"".join(_mac(key, _DIALLER, self._said) for key in self._keys)
        if _maker(data, self._keys, _DIALLED, self._said) is None:
            raise Refused("it has another key")
        self.peer = self._wanted
        return b""


class Dialled:
    """The side that was dialled, the incarnation `own`."""

    def __init__(self, keys: Keys, own: int, chance: Chance) -> None:
        self.peer = 0
        self.caller = 0  # who says to dial, unproved
        self._keys = keys or NO_KEY
        self._own = own
        self._chance = chance
        self._said = b""

    def receive(self, data: bytes) -> bytes:
        """The answer to a message; `peer` is set with the last one. Raises `Refused`."""
        if not self._said:
            hello = _read(data, Hello)
            _check_version(hello.version)
            if not self._own:
                raise Refused("this node has not joined yet")
            if hello.wanted != self._own or hello.own in {0, self._own}:
                raise Refused(f"the incarnation {hello.wanted} was wanted, and this is {self._own}")
            _check_nonce(hello.nonce)
            self.caller = hello.own
            challenge = _pack(Challenge(VERSION, self._own, bytes.fromhex(self._chance.hex(NONCE_BYTES))))
            self._said = data + challenge
            return challenge
        macs = [data[at : at + MAC_BYTES] for at in range(0, min(len(data), KEYS_MAX * MAC_BYTES), MAC_BYTES)]
        key = next((key for mac in macs if (key := _maker(mac, self._keys, _DIALLER, self._said)) is not None), None)
        if key is None:
            raise Refused("it has another key, or none")
        self.peer = self.caller
        return _mac(key, _DIALLED, self._said)


def _maker(mac: bytes, keys: Keys, role: bytes, said: bytes) -> bytes | None:
    """The key that made a mac."""
    return next((key for key in keys if hmac.compare_digest(mac, _mac(key, role, said))), None)


def _mac(key: bytes, role: bytes, said: bytes) -> bytes:
    return hmac.digest(key, role + said, "sha256")


def _read(data: bytes, type: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=type)
    except msgspec.MsgspecError as exc:
        raise Refused(f"it speaks another language: {exc}") from exc


def _check_version(version: int) -> None:
    if version != VERSION:
        raise Refused(f"it speaks version {version} of the protocol, this node {VERSION}")


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise Refused(f"its nonce has {len(nonce)} bytes instead of {NONCE_BYTES}")
