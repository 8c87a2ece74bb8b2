"""A script as its statements, each with the line on which it begins.

Where one ends is SQLite's to say: a semicolon may stand in a text, a comment or the body of a trigger.
"""

from __future__ import annotations

import re
from sqlite3 import complete_statement

import msgspec

_NOTHING = re.compile(r"(?>[\s;]+|--[^\n]*|/\*.*?(?:\*/|\Z))*+", re.DOTALL)  # white space, comments, empty statements


class SqlStatement(msgspec.Struct, frozen=True):
    """One statement, and its line in the script, counted from 1."""

    line: int
    text: str


def split_statements(script: str) -> list[SqlStatement]:
    """The statements of a script in order. The last one may lack its semicolon; what is only comments is none."""
    found = []
    at = _after_nothing(script, 0)
    while at < len(script):
        end = _end(script, at)
        found.append(SqlStatement(script.count("\n", 0, at) + 1, script[at:end].rstrip()))
        at = _after_nothing(script, end)
    return found


def _end(script: str, start: int) -> int:
    """Where the statement that begins at `start` ends."""
    semicolon = script.find(";", start)
    while semicolon >= 0:
        if complete_statement(script[start : semicolon + 1]):
            return semicolon + 1
        semicolon = script.find(";", semicolon + 1)
    return len(script)


def _after_nothing(script: str, start: int) -> int:
    match = _NOTHING.match(script, start)
    assert match is not None, "it matches the empty text"
    return match.end()
