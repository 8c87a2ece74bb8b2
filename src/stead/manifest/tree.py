"""What a manifest's text says, before anyone asks what it means: blocks, attributes and values, each with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str = ""
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Attribute:
    name: str
    value: Value
    position: Position  # of the name


@dataclass(frozen=True)
class Block:
    kind: str  # "" for the file itself, and for a value in braces
    labels: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    blocks: tuple[Block, ...]
    position: Position


Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | Block"
