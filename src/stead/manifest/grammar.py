"""Manifest text to a tree of blocks, with every syntax error in it.

One pattern cuts the text into tokens, a recursive descent reads them. After an error the parser goes on at the next line, or at
the brace that closes the block, past whatever the wrong line opens: one slip gives one error, and those after it are found too.
No token is read twice, so time is linear in the text; size and nesting are bounded. What the words mean is known to `checks`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from stead.manifest.findings import Findings
from stead.manifest.tree import Attribute, Block, Position, Value

FILE_BYTES_MAX = 256 * 1024  # thousands of units: what is larger is not a manifest
DEPTH_MAX = 32  # blocks and values inside each other; the language itself needs four

_TOKEN = re.compile(
    r"""(?P<space> [\s\ufeff]+ | (?://|\#)[^\n]* | /\*(?s:.*?)\*/ ) | (?P<name> [A-Za-z_][A-Za-z0-9_-]* )
    | (?P<number> -?[0-9]{1,15}(?:\.[0-9]{1,15})?(?![\w.]) ) | (?P<mark> [{}\[\]=,] )
    | (?P<string> "(?:[^"\\\n]|\\["\\nt])*+" ) | (?P<escape> "(?:[^"\\\n]|\\.)*+" ) | (?P<unclosed> "[^\n]* )
    | (?P<single> '[^'\n]*' ) | (?P<comment> /\*(?s:.*) ) | (?P<junk> -?[\w.]+ | [^\s\w."'\#/{}\[\]=,-]+ | . )""",
    re.VERBOSE,
)
_SLIPS = {  # a kind of token that is wrong: what it is taken for, the problem, the hint
    "escape": ("string", "this text has an unknown escape", 'there are \\" \\\\ \\n and \\t'),
    "unclosed": ("string", "this text is never closed", 'end it with " on the same line; a line break is written \\n'),
    "single": ("string", "text in single quotes", "use double quotes"),
    "comment": ("space", "this comment is never closed", "end it with */"),
    "junk": ("junk", "this is no word of the manifest language", 'text stands in "quotes", comments follow # or //'),
}


class _Token(NamedTuple):
    kind: str  # name, number, string, junk, end, or the mark itself
    value: str
    start: int
    end: int


class _Skip(Exception):
    """The rest of this statement cannot be read; its error is reported."""


def parse(text: str, file: str, findings: Findings) -> Block:
    """The blocks of `text`, in one block without a kind. What could not be read is not in the tree but in `findings`."""
    if len(text) > FILE_BYTES_MAX:
        findings.add(
            Position(file), f"this file is over {FILE_BYTES_MAX:,} bytes", "a manifest is smaller: is this the right file?"
        )
        text = ""
    return _Parser(text, file, findings).body("", (), Position(file), 0)


class _Parser:
    def __init__(self, text: str, file: str, findings: Findings) -> None:
        self.file, self.findings, self.at = file, findings, 0
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.tokens = list(self.lex(text))

    def position(self, offset: int) -> Position:
        line = bisect_right(self.lines, offset)
        return Position(self.file, line, offset - self.lines[line - 1] + 1)

    def lex(self, text: str) -> Iterator[_Token]:
        for match in _TOKEN.finditer(text):
            kind, value = str(match.lastgroup), match.group()
            if kind in _SLIPS:
                kind, problem, hint = _SLIPS[kind]
                self.findings.add(self.position(match.start()), problem, hint)
            if kind == "string":
                value = re.sub(r"\\(.)", lambda escape: {"n": "\n", "t": "\t"}.get(escape[1], escape[1]), value[1:-1])
            if kind != "space":
                yield _Token(value if kind == "mark" else kind, value, match.start(), match.end())
        yield _Token("end", "", len(text), len(text))

    def body(self, kind: str, labels: tuple[str, ...], position: Position, depth: int) -> Block:
        nodes: list[Attribute | Block] = []
        while self.tokens[self.at].kind not in ({"}", "end"} if depth else {"end"}):
            start = self.at
            try:
                nodes.append(self.statement(depth))
            except _Skip:
                self.skip(start)
        if self.tokens[self.at].kind == "}":
            self.at += 1
        elif depth:
            self.findings.add(position, f"the braces of `{kind or '{'}` are never closed", "add the missing }")
        attributes = tuple(node for node in nodes if isinstance(node, Attribute))
        return Block(kind, labels, attributes, tuple(node for node in nodes if isinstance(node, Block)), position)

    def statement(self, depth: int) -> Attribute | Block:
        name = self.take("name", "a block or an attribute", 'such as service "api" { } or visibility = "public"')
        position, labels = self.position(name.start), list[str]()
        if self.tokens[self.at].kind == "=":
            self.at += 1
            return Attribute(name.value, self.value(depth), position)
        while (token := self.tokens[self.at]).kind == "string" or (token.kind == "name" and self.tokens[self.at + 1].kind == "{"):
            labels.append(self.take(token.kind).value)
            if token.kind == "name":
                self.findings.add(self.position(token.start), f"the name {token.value} is not in quotes", f'write "{token.value}"')
        self.take("{", "`=` or `{`", f'write {name.value} = value, or {name.value} "name" {{ }}', depth)
        return self.body(name.value, tuple(labels), position, depth + 1)

    def value(self, depth: int, expected: str = "a value") -> Value:
        token = self.tokens[self.at]
        if token.kind in {"string", "number"} or (token.kind == "name" and token.value in {"true", "false"}):
            self.at += 1
            number = float if "." in token.value else int
            return (
                number(token.value) if token.kind == "number" else token.value if token.kind == "string" else token.value == "true"
            )
        if token.kind != "[":
            self.take("{", expected, 'a value is "text", a number, true, false, [ a list ] or { name = value }', depth)
            return self.body("", (), self.position(token.start), depth + 1)
        items: list[Value] = []
        self.take("[", depth=depth)
        while self.tokens[self.at].kind != "]":
            if self.tokens[self.at].kind == ",":
                self.at += 1
            else:
                items.append(self.value(depth + 1, "a value or `]`"))
        self.at += 1
        return tuple(items)

    def take(self, kind: str, expected: str = "", hint: str = "", depth: int = 0) -> _Token:
        token, before = self.tokens[self.at], self.tokens[max(0, self.at - 1)]
        if token.kind == kind and depth < DEPTH_MAX:
            self.at += 1
            return token
        if token.kind == kind:
            self.findings.add(self.position(token.start), f"nested more than {DEPTH_MAX} deep", "is a } missing above?")
        elif token.kind != "junk":  # which has been reported
            place, found = self.position(token.start), f"`{token.value[:40]}`" if token.kind != "end" else "the end of the file"
            if kind != "name" and place.line > self.position(before.end).line:
                place, found = self.position(before.end), "the end of the line"
            self.findings.add(place, f"expected {expected}, found {found}", hint)
        raise _Skip

    def skip(self, start: int) -> None:
        """Pass the rest of the line of the last token read (of `start`, if none was), but not the brace that closes this block."""
        line, depth = self.position(self.tokens[max(start, self.at - 1)].start).line, 0
        while (token := self.tokens[self.at]).kind != "end":
            if self.at > start and depth == 0 and (token.kind == "}" or self.position(token.start).line > line):
                return
            depth = max(0, depth + (token.kind in {"{", "["}) - (token.kind in {"}", "]"}))
            self.at += 1
