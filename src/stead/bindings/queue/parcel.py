"""Parcels: messages that are stored, handed over and settled together, because they were sent together.

A parcel is one entry, so a message costs a share of one. Its messages are alike in all but their numbers and bodies, and keep their
numbers for life: what becomes of some of them is said by number, and divides the parcel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

PARCEL_MESSAGES_MAX = 100  # past that a message's share of the rest of an entry is nothing
PARCEL_BYTES_MAX = 128 * 1024  # of bodies, unless it is a single one: so much is written anew where a parcel is divided
BATCH_BYTES_MAX = 16 * 1024 * 1024  # of bodies handed over together: half of what a call may carry

ContentType = Literal["json", "text", "bytes", "python"]


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """Messages on their way into a queue."""

    bodies: list[bytes]
    content_type: ContentType = "json"
    delay_s: float = 0.0
    attempts: int = 0  # of what were messages before: of dead letters


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Messages as they are stored; each number has its body. `attempts` counts, in a consumer's hands, the present one, too."""

    numbers: list[int]
    bodies: list[bytes]
    sent_ms: int
    attempts: int
    content_type: ContentType

    def divide(self, numbers: Collection[int]) -> tuple[Parcel | None, Parcel | None]:
        """Those of the messages that have one of `numbers`, and the others; None where there are none."""
        if numbers == self.numbers:
            return self, None
        chosen = set(numbers)
        inside = [place for place, number in enumerate(self.numbers) if number in chosen]
        outside = [place for place, number in enumerate(self.numbers) if number not in chosen]
        return self._part(inside), self._part(outside)

    def tried(self) -> Parcel:
        """The same with one attempt more."""
        return Parcel(self.numbers, self.bodies, self.sent_ms, self.attempts + 1, self.content_type)

    def _part(self, places: Sequence[int]) -> Parcel | None:
        if not places:
            return None
        numbers, bodies = [self.numbers[place] for place in places], [self.bodies[place] for place in places]
        return Parcel(numbers, bodies, self.sent_ms, self.attempts, self.content_type)


Parcels = Mapping[str, Parcel]
"""By the key under which each is stored, or a part of each."""

Retries = Mapping[int, float | None]
"""The numbers of messages that are to be tried again, and in how many seconds; None: when the queue says."""


def portions(bodies: list[bytes], messages_max: int) -> Iterator[list[bytes]]:
    """What was sent together, in parts that are parcels of a fair size."""
    if len(bodies) <= messages_max and sum(map(len, bodies)) <= PARCEL_BYTES_MAX:
        yield bodies
        return
    part: list[bytes] = []
    size_bytes = 0
    for body in bodies:
        if part and (len(part) == messages_max or size_bytes + len(body) > PARCEL_BYTES_MAX):
            yield part
            part, size_bytes = [], 0
        part.append(body)
        size_bytes += len(body)
    yield part


def first_of(parcels: Parcels, limit: int) -> dict[str, Parcel]:
    """The first `limit` messages of parcels, or fewer large ones; the last parcel may be a part of one."""
    chosen: dict[str, Parcel] = {}
    size_bytes = 0
    for key, parcel in parcels.items():
        if limit <= 0 or size_bytes > BATCH_BYTES_MAX:
            break
        first, _ = parcel.divide(parcel.numbers[:limit])
        assert first is not None
        chosen[key] = first
        limit -= len(first.numbers)
        size_bytes += sum(map(len, first.bodies))
    return chosen


def count_of(parcels: Parcels) -> int:
    return sum(len(parcel.numbers) for parcel in parcels.values())


# Parcels and batches are bytes to the codec, which walks through any other value step by step: with many messages that is the cost.
pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
unpack_parcel: Callable[[bytes], Parcel] = msgspec.msgpack.Decoder(Parcel).decode
unpack_parcels: Callable[[bytes], dict[str, Parcel]] = msgspec.msgpack.Decoder(dict[str, Parcel]).decode
unpack_outgoing: Callable[[bytes], list[Outgoing]] = msgspec.msgpack.Decoder(list[Outgoing]).decode
unpack_list: Callable[[bytes], list[Parcel]] = msgspec.msgpack.Decoder(list[Parcel]).decode
unpack_retries: Callable[[bytes], dict[int, float | None]] = msgspec.msgpack.Decoder(dict[int, float | None]).decode
