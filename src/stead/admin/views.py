"""What an operator is shown: plain values that JSON carries unchanged, so that a local look and a remote one are the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from stead import codec
from stead.errors import Invalid
from stead.runtime.alarms import AlarmRow
from stead.storage.entries import ALARM

VALUE_CHARS_MAX = 2_000  # of one value's JSON: a look, not an export


class ActorLine(msgspec.Struct, frozen=True):
    """One line of the registry."""

    id: str
    unit: str
    name: str | None
    size_bytes: int
    commits: int
    created_ms: int
    active_ms: int


class ActorsPage(msgspec.Struct, frozen=True):
    """Some lines of the registry; `cursor` asks for the next ones and is None on the last page."""

    actors: list[ActorLine]
    cursor: str | None = None


class ValueLine(msgspec.Struct, frozen=True):
    """A key, attribute or alarm. Of JSON longer than VALUE_CHARS_MAX, `value` is the beginning, as text, and `cut` is set."""

    name: str
    value: Any
    size_bytes: int
    cut: bool = False


class TableLine(msgspec.Struct, frozen=True):
    """A table of an actor's SQL database."""

    name: str
    rows: int


class ActorView(msgspec.Struct, frozen=True):
    """What one actor holds. `more` is set if there are more keys than are listed; `tables` is None if they were not looked into."""

    line: ActorLine
    keys: list[ValueLine]
    attributes: list[ValueLine]
    alarms: list[ValueLine]
    tables: list[TableLine] | None
    sql_bytes: int
    more: bool = False


def json_text(key: bytes, data: bytes) -> str:
    """The value of an entry as JSON. What JSON has no word for becomes text: ISO dates, base64 bytes, or Python's own notation."""
    try:
        value = _alarm(data) if key.startswith(ALARM) else codec.decode(data)
    except (Invalid, msgspec.MsgspecError):
        return json.dumps(f"<{len(data)} bytes that cannot be read>")
    try:
        return json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, OverflowError):
        return json.dumps(repr(value), ensure_ascii=False)


def _alarm(data: bytes) -> dict[str, Any]:
    row = msgspec.msgpack.decode(data, type=AlarmRow)
    return {**msgspec.structs.asdict(row), "payload": codec.decode(row.payload)}


def value_line(key: bytes, data: bytes) -> ValueLine:
    """An entry to be shown; its key begins with the byte that says whose it is."""
    name, text = key[1:].decode(), json_text(key, data)
    if len(text) > VALUE_CHARS_MAX:
        return ValueLine(name, text[:VALUE_CHARS_MAX], len(data), cut=True)
    return ValueLine(name, json.loads(text), len(data))
