"""The soak for some seconds, and what it must find. `make soak` is the whole of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.scripts import run_script
from tests.soak.__main__ import growth
from tests.soak.member import Load, Member

LIMIT_S = 120.0  # many times what it takes: a loaded machine is no failure
SMALL = Load(sockets=4, rooms=2, seconds=1)


@pytest.mark.process
def test_nothing_is_lost_or_out_of_order() -> None:
    """A hundred sockets in four rooms get every echo and every broadcast, once, in order; the server's memory stays flat."""
    code, told = run_script("tests.soak", "--sockets", "100", "--rooms", "4", "--seconds", "5", limit_s=LIMIT_S)
    assert told["faults"] == [] and code == 0
    assert told["received"] == 100 * (48 + 50)


def served(break_it: Callable[[Member], object]) -> list[str]:
    """The faults in a room of two, after `break_it` was done to what the second one was sent."""
    room = [Member(SMALL, 0, number) for number in range(SMALL.room_size)]
    for member in room:
        member.echoes = SMALL.echoes_of(member.number)
        member.heard = [(sender, message) for sender in range(2) for message in SMALL.broadcasts_of(sender)]
    break_it(room[1])
    return [fault for member in room for fault in member.faults(room)]


def swap(items: list[tuple[int, int]], one: int, other: int) -> None:
    items[one], items[other] = items[other], items[one]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda member: member.echoes.pop(3), "echoes: 1 lost, 0 doubled"),
        (lambda member: member.echoes.insert(3, member.echoes[2]), "echoes: 0 lost, 1 doubled"),
        (lambda member: member.echoes.reverse(), "echoes: out of order"),
        (lambda member: member.heard.pop(), "broadcasts of 1: 1 lost"),
        (lambda member: swap(member.heard, 0, 1), "broadcasts of 0: out of order"),
        (lambda member: swap(member.heard, 4, 5), "another order"),
        (lambda member: setattr(member, "end", "1013"), "ended: 1013"),
    ],
)
def test_what_is_wrong_is_found(break_it: Callable[[Member], object], said: str) -> None:
    """A loss, a double, a wrong order at one socket or between two, an end; and nothing where nothing is wrong."""
    faults = served(break_it)
    assert any(said in fault for fault in faults)
    assert all(fault.startswith("socket 1 of room 0: ") for fault in faults)
    assert served(lambda member: None) == []


def test_growth_is_found() -> None:
    """From the second quarter of the load to the last: the memory that connections and first messages take is none."""
    assert growth((50.0, 80.0, 87.0)) == []
    assert growth((50.0, 80.0, 89.0)) == ["memory grew from 80.0 to 89.0 MiB"]
