"""Parcels: what was sent together, whole or in parts."""

from __future__ import annotations

import pytest

from stead.bindings.queue.parcel import PARCEL_BYTES_MAX, Parcel, first_of, pack, portions, unpack_parcel

PARCEL = Parcel([3, 4, 5, 9], [b"c", b"d", b"e", b"i"], 1, 2, "text")


@pytest.mark.parametrize(
    ("numbers", "inside", "outside"),
    [
        ([3, 4, 5, 9], b"cdei", b""),
        ([], b"", b"cdei"),
        ([9, 3, 7], b"ci", b"de"),
        ({1}, b"", b"cdei"),
        ([9, 5, 4, 3], b"cdei", b""),
    ],
)
def test_a_parcel_is_divided_by_numbers(numbers: list[int], inside: bytes, outside: bytes) -> None:
    """Each message is in one of the parts, with its number, in its order; a part without messages is none."""
    for part, expected in zip(PARCEL.divide(numbers), (inside, outside), strict=True):
        assert b"".join([] if part is None else part.bodies) == expected
        assert part is None or {number: PARCEL.bodies[PARCEL.numbers.index(number)] for number in part.numbers} == dict(
            zip(part.numbers, part.bodies, strict=True)
        )
        assert part is None or (part.sent_ms, part.attempts, part.content_type) == (1, 2, "text")


def test_a_parcel_is_read_back() -> None:
    """As it was stored; with one attempt more where it is handed out."""
    assert unpack_parcel(pack(PARCEL)) == PARCEL
    assert PARCEL.tried().attempts == 3 and PARCEL.tried().numbers == PARCEL.numbers


def test_portions_are_of_a_fair_size() -> None:
    """Neither too many messages nor too many bytes, but for a single large one; nothing is lost and the order stays."""
    small = [b"%d" % number for number in range(25)]
    assert [len(part) for part in portions(small, 10)] == [10, 10, 5]
    assert list(portions(small, 25)) == [small]
    mixed = [b"a", b"b" * (PARCEL_BYTES_MAX + 1), b"c", b"d" * (PARCEL_BYTES_MAX - 1), b"e"]
    assert [len(part) for part in portions(mixed, 10)] == [1, 1, 2, 1]
    assert [body for part in portions(mixed, 10) for body in part] == mixed


def test_the_first_messages_end_inside_a_parcel() -> None:
    """As many as asked for, or all there are."""
    parcels = {"a": PARCEL, "b": PARCEL}
    assert [list(first_of(parcels, limit).items()) for limit in (0, 4)] == [[], [("a", PARCEL)]]
    assert [part.numbers for part in first_of(parcels, 6).values()] == [[3, 4, 5, 9], [3, 4]]
    assert first_of(parcels, 100) == parcels
