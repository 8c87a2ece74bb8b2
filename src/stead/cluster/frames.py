"""What two nodes say to each other on a channel, as bytes.

A message of the wire is a *batch*: one flat MessagePack array of `kind, conversation, value`, as often as there are frames. So any
number of small frames is encoded and decoded by one call each. A batch without frames is a sign of life.

```
 OPEN   n payload   a conversation begins        LAST_OPEN   … and nothing more comes from its opener
 DATA   n payload   the next payload             LAST_DATA   … and nothing more comes
 PIECE  n payload   a part of the next payload, which the frame with its end follows
 END    n 0         nothing more comes
 CREDIT n bytes     so much was consumed of what was sent
 ABORT  n 0         the conversation is over
```

Conversations are numbered by who opens them: odd by who dialled the channel, even by who was dialled, each in rising order.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

OPEN, LAST_OPEN, DATA, LAST_DATA, PIECE, END, CREDIT, ABORT = range(8)
LAST = 1  # added to OPEN and DATA

PIECE_BYTES = 64 * 1024  # longer payloads are cut, so that a beat never waits long behind one
BATCH_BYTES = 64 * 1024  # from here on a batch leaves without waiting for the end of the loop's step
FRAME_BYTES = 16  # what a frame takes besides its payload, at most

_TAKES_BYTES = {OPEN, LAST_OPEN, DATA, LAST_DATA, PIECE}
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[int | bytes]).decode

BEAT = _pack([])


class Violation(Exception):
    """The peer broke the protocol; the message says how. Its channel ends."""


def encode_batch(items: list[int | bytes | memoryview]) -> bytes:
    """`items` are `kind, conversation, value` of each frame, one after the other."""
    return _pack(items)


def decode_batch(data: bytes) -> Iterable[tuple[int, int, int | bytes]]:
    """The frames of a batch, each with what its kind demands. Raises `Violation`, at the latest at the one that is wrong."""
    try:
        items = _unpack(data)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise Violation(f"it sent what is no batch of frames: {exc}") from exc
    if len(items) % 3:
        raise Violation("it sent a batch with half a frame")
    return _checked(items)


def _checked(items: list[int | bytes]) -> Iterable[tuple[int, int, int | bytes]]:
    rest = iter(items)
    for kind, number, value in zip(rest, rest, rest, strict=True):
        if type(kind) is not int or not 0 <= kind <= ABORT:
            raise Violation(f"it sent a frame of the unknown kind {kind!r:.40}")
        if type(number) is not int or (type(value) is bytes) is not (kind in _TAKES_BYTES):
            raise Violation(f"it sent a frame of kind {kind} with what does not belong there")
        yield kind, number, value
