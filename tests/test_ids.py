"""Names of things: two names never meet, and every id can be read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.errors import Invalid
from stead.ids import NAME_BYTES_MAX, ActorId, Chance, named_id, parse_id, unique_id

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
units = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)


@given(units, names)
def test_an_id_can_be_read_back(unit: str, name: str) -> None:
    """The text of an id names its unit and its name, whatever the name holds."""
    actor = named_id(unit, name)
    again = parse_id(str(actor))
    assert (again, again.unit, again.name) == (actor, unit, name)


@given(units, names, units, names)
def test_two_names_never_meet(unit: str, name: str, other_unit: str, other: str) -> None:
    """Ids are equal only if unit and name are; `a/b` and `a%2Fb` differ."""
    same = (unit, name) == (other_unit, other)
    assert (named_id(unit, name) == named_id(other_unit, other)) is same
    assert (named_id(unit, name).text == named_id(other_unit, other).text) is same


@given(units, units, names)
def test_a_unique_id_never_meets_a_name(unit: str, other: str, name: str) -> None:
    """No name gives a unique id, not even one that spells it."""
    unique = unique_id(unit, Chance(1))
    assert unique.name is None
    assert parse_id(unique.text) == unique
    assert named_id(other, unique.text) != unique and named_id(other, name) != unique


@pytest.mark.parametrize(
    "name", ["", "x" * (NAME_BYTES_MAX + 1), "é" * (NAME_BYTES_MAX // 2 + 1), "a\0b", "\ud800", 5, None, b"bytes"]
)
def test_a_wrong_name_is_invalid(name: Any) -> None:
    """Empty, too long, NUL, broken text and what is no text."""
    with pytest.raises(Invalid, match="an actor's name must"):
        named_id("unit", name)


def test_the_longest_name_is_allowed() -> None:
    """The limit is counted in bytes and is exact."""
    assert named_id("unit", "é" * (NAME_BYTES_MAX // 2)).name == "é" * (NAME_BYTES_MAX // 2)


@pytest.mark.parametrize(
    "text", ["", "unit", "unit/", "/name", "Unit/x", "unit~", "unit~12", "unit~" + "g" * 32, "unit~" + "a" * 32 + "\n", "-u/x"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    """The error shows how an id reads."""
    with pytest.raises(Invalid):
        parse_id(text)


def test_an_id_never_changes() -> None:
    """It is a key: equal, hashed and shown by its text."""
    actor = named_id("unit", "a")
    with pytest.raises(AttributeError):
        actor.name = "b"
    assert {actor: 1}[ActorId("unit", "a", "unit/a")] == 1
    assert actor != "unit/a"
    assert (str(actor), repr(actor)) == ("unit/a", "<ActorId unit/a>")


def test_chance_repeats_with_a_seed_and_not_without() -> None:
    """The same seed gives the same sequence; without one no two are alike."""
    assert [Chance(5).hex(16) for _ in range(2)] == [Chance(5).hex(16)] * 2
    assert Chance().hex(16) != Chance().hex(16)
    chance = Chance(1)
    assert all(0 <= chance.fraction() < 1 and 0 <= chance.below(7) < 7 for _ in range(100))
    assert len(chance.hex(3)) == 6
