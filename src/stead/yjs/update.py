"""A Yjs update (v1) read to its end before pycrdt sees it: what cannot be right, or would crash it, is `Malformed`.

    update     clients, and of each: structs, the client, the clock of the first, the structs; then what was deleted
    struct     info, and a length, or what it stands beside or inside of, and its content

yrs makes room for counts before it has seen what is counted, takes strings for UTF-8, and recurses: over values when it reads them,
over types inside each other when it deletes them. Overflowing its stack, or asking for more memory than there is, ends the process.
So every count must be there, every string be text, and both depths be bounded. Values show theirs. How deep a type is says the
document only, which takes a while to look through (`depth`), so `read_update` counts types: one more is one level more at the most.

What Yjs and yrs read differently, or only one of them knows, is refused: hooks of XML, links, moves.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from stead.yjs.protocol import Malformed, Reader

VALUE_DEPTH_MAX = 100  # yrs overflows at some 20,000 in a stack of 8 MiB
PARTS_MAX = 1_000_000  # of an update: some seconds here, and some 300 MB in yrs, in the worst case
CLOCK_MAX = (1 << 31) - 1  # yrs has 32 bits, and adds
LEVEL_BYTES_MIN = 5  # of the struct that is inside of another: info, that it names its parent, whom, and a content

_KIND, _HAS_KEY, _HAS_RIGHT, _HAS_LEFT = 0x1F, 0x20, 0x40, 0x80
_GC, _DELETED, _JSON, _BINARY, _STRING, _EMBED, _FORMAT, _TYPE, _ANY, _DOC, _SKIP = range(11)
_ARRAY, _MAP, _TEXT, _XML_ELEMENT, _XML_FRAGMENT, _XML_TEXT = 0, 1, 2, 3, 4, 6
_TYPES = frozenset({_ARRAY, _MAP, _TEXT, _XML_ELEMENT, _XML_FRAGMENT, _XML_TEXT})
_VALUE_BYTES = {127: 0, 126: 0, 124: 4, 123: 8, 122: 8, 121: 0, 120: 0}  # undefined, null, floats, a bigint, booleans
_INTEGER, _VALUE_TEXT, _OBJECT, _LIST, _BUFFER = 125, 119, 118, 117, 116

Id = tuple[int, int]  # client and clock


class Block(NamedTuple):
    """What a struct says of where it is: in the type `parent`, or where those that it was put between are, or in a root."""

    client: int
    clock: int
    parent: Id | None
    beside: tuple[Id, ...]
    is_type: bool


class _Parts(Reader):
    """Counts what it counts off."""

    __slots__ = ("_left",)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = PARTS_MAX

    def count(self, what: str) -> int:
        count = super().count(what)
        self._left -= count
        if self._left < 0:
            raise Malformed(f"an update of over {PARTS_MAX:,} structs, values and deletions")
        return count


def read_update(data: bytes, blocks: list[Block] | None = None) -> int:
    """Check an update, and say how many types are made in it. Raises `Malformed`. `blocks` is given every struct but gaps."""
    reader = _Parts(data)
    types = 0
    for _ in range(reader.count("clients")):
        structs, client, clock = reader.count("structs"), reader.varuint(), reader.varuint()
        for _ in range(structs):
            info = reader.byte()
            if info in (_GC, _SKIP):
                clock += reader.varuint()
                continue
            parent, beside = _read_place(reader, info)
            kind = info & _KIND
            if blocks is not None:
                blocks.append(Block(client, clock, parent, beside, kind == _TYPE))
            clock += _read_content(reader, kind)
            types += kind == _TYPE
        if clock > CLOCK_MAX:
            raise Malformed(f"a clock is over {CLOCK_MAX:,}")
    for _ in range(reader.count("clients")):
        reader.varuint()
        for _ in range(reader.count("deletions")):
            if reader.varuint() + reader.varuint() > CLOCK_MAX:
                raise Malformed(f"a clock is over {CLOCK_MAX:,}")
    return types


def _read_place(reader: Reader, info: int) -> tuple[Id | None, tuple[Id, ...]]:
    beside: tuple[Id, ...] = ()
    if info & _HAS_LEFT:
        beside = ((reader.varuint(), reader.varuint()),)
    if info & _HAS_RIGHT:
        beside += ((reader.varuint(), reader.varuint()),)
    parent = None
    if not beside:
        if reader.varuint() == 1:
            reader.text()  # a root's name
        else:
            parent = reader.varuint(), reader.varuint()
        if info & _HAS_KEY:
            reader.text()
    return parent, beside


def _read_content(reader: Reader, kind: int) -> int:
    """Skip a content. Returns its length, by which the clock goes on."""
    if kind == _STRING:
        text = reader.text()
        return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
    if kind == _DELETED:
        return reader.varuint()
    if kind == _ANY:
        values = reader.count("values")
        for _ in range(values):
            _read_value(reader, VALUE_DEPTH_MAX)
        return values
    if kind == _JSON:
        texts = reader.count("values")
        for _ in range(texts):
            reader.text()
        return texts
    if kind == _TYPE:
        _read_type(reader)
    elif kind == _FORMAT:
        reader.text()
        reader.text()
    elif kind == _BINARY:
        reader.bytes()
    elif kind == _EMBED:
        reader.text()
    elif kind == _DOC:
        reader.text()
        _read_value(reader, VALUE_DEPTH_MAX)
    else:
        raise Malformed(f"there is no content {kind}")
    return 1


def _read_type(reader: Reader) -> None:
    kind = reader.byte()
    if kind not in _TYPES:
        raise Malformed(f"there is no type {kind}")
    if kind == _XML_ELEMENT:
        reader.text()


def _read_value(reader: Reader, depth: int) -> None:
    if depth == 0:
        raise Malformed(f"a value is nested more than {VALUE_DEPTH_MAX} deep")
    tag = reader.byte()
    if tag == _VALUE_TEXT:
        reader.text()
    elif tag == _INTEGER:
        reader.varint()
    elif tag in _VALUE_BYTES:
        reader.skip(_VALUE_BYTES[tag])
    elif tag == _OBJECT:
        for _ in range(reader.count("values")):
            reader.text()
            _read_value(reader, depth - 1)
    elif tag == _LIST:
        for _ in range(reader.count("values")):
            _read_value(reader, depth - 1)
    elif tag == _BUFFER:
        reader.bytes()
    else:
        raise Malformed(f"there is no value {tag}")


def depth(*updates: bytes) -> int:
    """How many types are inside each other, at the most, in what updates make that have no struct in common. Raises `Malformed`."""
    blocks: list[Block] = []
    for update in updates:
        read_update(update, blocks)
    return _Levels(blocks).depth()


class _Levels:
    """How many types are around each block. What is not there counts as a root."""

    def __init__(self, blocks: list[Block]) -> None:
        self._blocks = sorted(blocks)
        self._starts = [(block.client, block.clock) for block in self._blocks]
        self._levels: list[int | None] = [None] * len(blocks)

    def depth(self) -> int:
        return max((self._level(index) + 1 for index, block in enumerate(self._blocks) if block.is_type), default=0)

    def _level(self, index: int) -> int:
        """Of one block; those that it depends on are looked at first, without recursion: a text is one long chain of them."""
        levels = self._levels
        pending = [index] if levels[index] is None else []
        while pending:
            at = pending[-1]
            around, is_inside = self._around(at)
            if levels[at] is None:
                levels[at] = 0  # for those that depend on themselves: nothing is in them
                unknown = [other for other in around if levels[other] is None]
                if unknown:
                    pending += unknown
                    continue
            pending.pop()
            levels[at] = max((levels[other] or 0 for other in around), default=0) + is_inside
        return levels[index] or 0

    def _around(self, index: int) -> tuple[list[int], bool]:
        """The blocks that say where one is, and whether it is inside of them."""
        block = self._blocks[index]
        ids = block.beside if block.parent is None else (block.parent,)
        found = [self._find(id) for id in ids]
        return [other for other in found if other is not None], block.parent is not None

    def _find(self, id: Id) -> int | None:
        index = bisect_right(self._starts, id) - 1
        return index if index >= 0 and self._starts[index][0] == id[0] else None
