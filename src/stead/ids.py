"""Names of things, and the one source of chance.

An actor's id has two spellings that can never meet: `unit/name` for one that a name made, `unit~hex` for a unique one. A unit's
name holds neither `/` nor `~`, so the text splits in one way only and two names never share an id, whatever they contain.
"""

from __future__ import annotations

import re
from random import Random, SystemRandom  # noqa: TID251 - this module is the source the ban points to

from stead.errors import Invalid

NAME_BYTES_MAX = 1024  # an id is a storage key and a log field: what is longer belongs in the state
UNIT_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")
ANSWERS_UNIT = "stead_answers"  # the one unit that every application has and no manifest may name: see `runtime/answers.py`
_UNIQUE_PATTERN = re.compile(r"[0-9a-f]{32}")


class ActorId:
    """Which actor: its unit and either a name or a unique part. Equal ids are one actor."""

    __slots__ = ("name", "text", "unit")

    unit: str
    name: str | None
    text: str

    def __init__(self, unit: str, name: str | None, text: str) -> None:
        _set_unit(self, unit)
        _set_name(self, name)
        _set_text(self, text)

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError("an id never changes")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorId) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<ActorId {self.text}>"


# The slots' own setters, past the guard against changes: ids are made for every call.
_set_unit, _set_name, _set_text = (vars(ActorId)[slot].__set__ for slot in ("unit", "name", "text"))


def named_id(unit: str, name: str) -> ActorId:
    """The id that `name` always gives in `unit`. Raises `Invalid` for a name that is empty, too long, or not text."""
    if not isinstance(name, str):
        raise Invalid(f"an actor's name must be str, got {type(name).__name__}")
    try:
        size_bytes = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError as exc:
        raise Invalid("an actor's name must be valid Unicode (it holds a lone surrogate)") from exc
    if not 0 < size_bytes <= NAME_BYTES_MAX:
        raise Invalid(f"an actor's name must have 1 to {NAME_BYTES_MAX} bytes in UTF-8, this one has {size_bytes}")
    if "\0" in name:
        raise Invalid("an actor's name must not contain NUL")
    return ActorId(unit, name, f"{unit}/{name}")


def unique_id(unit: str, chance: Chance) -> ActorId:
    """A new id that no name gives and no other call returns."""
    return ActorId(unit, None, f"{unit}~{chance.hex(16)}")


def parse_id(text: str) -> ActorId:
    """The id that `str(id)` came from. Raises `Invalid` for any other text."""
    match = UNIT_PATTERN.match(text)
    if match is not None:
        unit, rest = match.group(), text[match.end() :]
        if rest.startswith("/"):
            return named_id(unit, rest[1:])
        if rest.startswith("~") and _UNIQUE_PATTERN.fullmatch(rest[1:]):
            return ActorId(unit, None, text)
    raise Invalid(f"{text[:80]!r} is no actor id; an id reads unit/name or unit~32 hexadecimal digits")


def binding_name(unit: str) -> str:
    """The attribute of `env` under which others see a unit: `shopping-cart` is `SHOPPING_CART`."""
    return unit.replace("-", "_").upper()


class Chance:
    """All randomness: the system's own, or a repeatable sequence where a seed is given."""

    def __init__(self, seed: int | None = None) -> None:
        self._random: Random = SystemRandom() if seed is None else Random(seed)

    def hex(self, size_bytes: int) -> str:
        """`2 * size_bytes` hexadecimal digits."""
        return self._random.getrandbits(size_bytes * 8).to_bytes(size_bytes, "big").hex()

    def fraction(self) -> float:
        """A number in 0 <= x < 1."""
        return self._random.random()

    def below(self, bound: int) -> int:
        """A whole number in 0 <= x < bound."""
        return self._random.randrange(bound)
