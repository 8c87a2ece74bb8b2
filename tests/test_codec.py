"""The codec: what goes in comes out equal and of the same type, and bad input is `Invalid`, whatever it is."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stead import codec
from stead.errors import Invalid

zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
keys = st.one_of(hashables, st.tuples(hashables, hashables), st.frozensets(hashables, max_size=3))
values = st.recursive(
    keys | st.sets(keys, max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def round_trip(value: object) -> Any:
    return codec.decode(codec.encode(value))


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, list | tuple):
        return all(map(same, left, right))  # type: ignore[call-overload]
    if isinstance(left, dict) and isinstance(right, dict):
        return all(same(left[key], right[key]) for key in left) and list(map(type, left)) == list(map(type, right))
    return True


@settings(max_examples=300)
@given(values)
def test_what_goes_in_comes_out(value: object) -> None:
    """Every supported value comes back equal and of the same type, nested as it was."""
    assert same(round_trip(value), value)


@settings(max_examples=100)
@given(st.sets(hashables, max_size=6), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_bytes(value: set[object], random: Any) -> None:
    """The order in which a set was filled does not show, so an unchanged attribute is seen to be unchanged."""
    shuffled = list(value)
    random.shuffle(shuffled)
    assert codec.encode(set(shuffled)) == codec.encode(value)


@settings(max_examples=500)
@given(
    st.binary(max_size=40)
    | st.builds(
        lambda code, body: bytes([0xC7, len(body), code]) + body,
        st.integers(0, 14),
        values.map(codec.encode).filter(lambda b: len(b) < 256),
    )
)
def test_hostile_bytes_are_invalid_or_a_value(data: bytes) -> None:
    """Bytes from outside give a value or `Invalid`, never another error."""
    try:
        codec.decode(data)
    except Invalid:
        return


@pytest.mark.parametrize(
    "value",
    [float("nan"), -0.0, datetime(2026, 10, 25, 2, 30, fold=1), time(2, 30, fold=1, tzinfo=UTC), Decimal("1.10"), Decimal("NaN")],
)
def test_values_whose_equality_does_not_tell(value: object) -> None:
    """NaN, the sign of zero, fold and trailing zeros survive."""
    assert repr(round_trip(value)) == repr(value)
    if isinstance(value, float) and not math.isnan(value):
        assert math.copysign(1, round_trip(value)) == math.copysign(1, value)


class Size(enum.StrEnum):
    SMALL = "small"


class Color(enum.Enum):
    RED = (255, 0, 0)


Point = namedtuple("Point", "x y")


class Name(str):
    pass


def test_subclasses_of_plain_types_travel_as_the_plain_type() -> None:
    """What a subclass adds is not stored: an enum member is its value, a named tuple a tuple."""
    for value, plain in [
        (Size.SMALL, "small"),
        (Color.RED, (255, 0, 0)),
        (Point(1, 2), (1, 2)),
        (Name("ada"), "ada"),
        (OrderedDict(a=1), {"a": 1}),
        ({Size.SMALL: 1}, {"small": 1}),
    ]:
        assert same(round_trip(value), plain)


@dataclasses.dataclass
class Line:
    product: str
    quantity: int = 1
    size: Size = Size.SMALL
    parts: list[Line] = dataclasses.field(default_factory=list)


class Renamed(msgspec.Struct, rename="camel"):
    unit_price: int


class Tagged(msgspec.Struct, tag=True):
    value: int


class Other(msgspec.Struct, tag=True):
    value: int


class Row(msgspec.Struct, array_like=True, tag="row"):
    left: int
    right: str


class Model(BaseModel):
    plain: int
    aliased: str = Field(alias="theAlias")
    line: Line


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (Line("tea", 2, Size.SMALL, [Line("bag")]), Line),
        (Renamed(3), Renamed),
        (Tagged(1), Tagged | Other),
        (Other(1), Tagged | Other),
        (Row(1, "x"), Row),
        (Model(plain=1, theAlias="a", line=Line("tea")), Model),
        ([Line("tea")], list[Line]),
        (Size.SMALL, Size),
        ({"a": {Size.SMALL}}, dict[str, set[Size]]),
    ],
)
def test_typed_values_are_built_again(value: Any, type_: Any) -> None:
    """Dataclasses, Structs of every layout, models and enums come back as themselves where their type is named."""
    assert codec.convert(round_trip(value), type_) == value


@pytest.mark.parametrize(
    ("value", "type_", "said"),
    [
        ("1", int, "Expected `int`"),
        (True, int, "Expected `int`"),
        ({"product": 3}, Line, r"\$.product"),
        ({"plain": 1}, Model, "theAlias"),
        (1, type, "no dataclass"),
        ("blue", Size, "Invalid enum value"),
    ],
)
def test_what_does_not_fit_is_invalid_and_says_where(value: object, type_: Any, said: str) -> None:
    """Conversion is strict, and its error names the path."""
    with pytest.raises(Invalid, match=said):
        codec.convert(value, type_)


class Plain:
    pass


def cyclic_list() -> object:
    value: list[object] = []
    value.append(value)
    return value


def cyclic_dataclass() -> object:
    line = Line("tea")
    line.parts.append(line)
    return line


def deep(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = (value,)
    return value


@pytest.mark.parametrize(
    "value",
    [
        Plain(),
        [Plain()],
        {"a": {1: Plain()}},
        Plain,
        lambda: 1,
        cyclic_list(),
        cyclic_dataclass(),
        deep(codec.DEPTH_MAX + 1),
        "\ud800",
        {"\ud800": 1},
        {("\ud800",)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unsupported_value_is_refused(value: object) -> None:
    """Objects without fields, functions, cycles, too deep a nesting and broken text are `Invalid`."""
    with pytest.raises(Invalid):
        codec.encode(value)


def test_the_deepest_value_comes_back() -> None:
    """What may be encoded can be decoded."""
    assert round_trip(deep(codec.DEPTH_MAX)) == deep(codec.DEPTH_MAX)


def test_the_size_limit_is_exact() -> None:
    """A value of the limit passes and one byte more does not."""
    value = b"x" * 100
    size_bytes = len(codec.encode(value))
    assert codec.encode(value, size_bytes)
    with pytest.raises(Invalid, match="the limit here is"):
        codec.encode(value, size_bytes - 1)


def test_a_type_can_be_used_before_it_is_needed() -> None:
    """`date` and `datetime` do not stand in for each other, nor do bytes and text."""
    assert type(round_trip(date(2026, 1, 1))) is date
    assert type(round_trip(datetime(2026, 1, 1))) is datetime
    assert round_trip({b"a": 1, "a": 2}) == {b"a": 1, "a": 2}
    assert round_trip(UUID(int=5)) == UUID(int=5)
