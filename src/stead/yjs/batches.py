"""A message in pieces, as `y-partykit` sends what is over a megabyte.

    text    y-pk-batch#{"id": "k3", "type": "start", "size": 2500000, "count": 3}
    binary  the pieces, `count` of them with `size` bytes together
    text    y-pk-batch#{"id": "k3", "type": "end", "size": 2500000, "count": 3}

From its start to its end all binary frames of a connection belong to its batch.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from stead.yjs.protocol import Malformed

PREFIX = "y-pk-batch#"
BATCH_BYTES_MAX = 32 * 1024 * 1024  # what a single frame may have, too
BATCH_FRAMES_MAX = 1000  # 34 of a megabyte fill a batch; smaller ones are nobody's need


class Marker(msgspec.Struct, frozen=True):
    """The text before and after the pieces."""

    id: Annotated[str, msgspec.Meta(max_length=64)]
    type: Literal["start", "end"]
    size: Annotated[int, msgspec.Meta(ge=0, le=BATCH_BYTES_MAX)]
    count: Annotated[int, msgspec.Meta(ge=0, le=BATCH_FRAMES_MAX)]


_decode = msgspec.json.Decoder(Marker).decode


def read_marker(text: str) -> Marker:
    """The marker in a text that begins with `PREFIX`. Raises `Malformed`."""
    try:
        return _decode(text[len(PREFIX) :].encode())
    except (msgspec.MsgspecError, UnicodeEncodeError) as exc:
        raise Malformed(f"this marks no batch: {exc}") from exc


class Batch:
    """One message whose pieces arrive."""

    __slots__ = ("_frames", "size", "start")

    def __init__(self, start: Marker) -> None:
        self.start = start
        self._frames: list[bytes] = []
        self.size = 0

    def add(self, frame: bytes) -> None:
        """Take a piece. Raises `Malformed` when the batch has more or larger ones than it said."""
        self.size += len(frame)
        self._frames.append(frame)
        if self.size > self.start.size or len(self._frames) > self.start.count:
            raise Malformed("a batch is larger than it said")

    def end(self, marker: Marker) -> bytes:
        """The message. Raises `Malformed` if the pieces are not those that the start and the end tell of."""
        said = (self.start.id, self.start.size, self.start.count)
        if said != (marker.id, marker.size, marker.count) or (self.size, len(self._frames)) != said[1:]:
            raise Malformed("a batch is not what it said")
        return b"".join(self._frames)
