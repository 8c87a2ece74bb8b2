"""A page without the zeros in its middle.

SQLite fills a page from both ends: headers and pointers from the front, rows from the back, and what lies between is empty. The
page of a small table is nearly all gap, and so is what would be written, logged and kept in memory for it. A packed page is the
length of its front (two bytes, big-endian), the front, and the back; unpacked it is the same to the byte.

Where the gap is, the page's own header says (SQLite's file format, "B-tree Pages"). The header is only a hint: what is left out is
looked at and must be zeros, so pages of other kinds, or damaged ones, are packed without loss as well.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from stead.errors import EngineFailed
from stead.storage.sql.vfs import PAGE_BYTES

_LENGTH_BYTES: Final = 2
_FILE_HEADER_BYTES: Final = 100  # before the first page's own header
_HEADER_BYTES: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # by the kind of B-tree page
_HEADER: Final = Struct(">B2xHH")  # kind, number of cells, where their content starts
_ZEROS: Final = bytes(PAGE_BYTES)
_FILE_START: Final = b"SQLite format 3\0"


def pack(page: bytes) -> bytes:
    """`page` (PAGE_BYTES long) without its gap."""
    front, back = _gap(page)
    if back == 0 or page[front:back] != _ZEROS[: back - front]:
        front, back = len(page.rstrip(b"\0")), PAGE_BYTES
    return front.to_bytes(_LENGTH_BYTES, "big") + page[:front] + page[back:]


def unpack(data: bytes) -> bytes:
    """The page that was packed into `data`. Raises `EngineFailed` if none can have been."""
    front = int.from_bytes(data[:_LENGTH_BYTES], "big") + _LENGTH_BYTES
    gap_bytes = PAGE_BYTES + _LENGTH_BYTES - len(data)
    if gap_bytes < 0 or front > len(data):
        raise EngineFailed("a page of the actor's SQL database is damaged; restore the actor from a backup or an export")
    return data[_LENGTH_BYTES:front] + _ZEROS[:gap_bytes] + data[front:]


def _gap(page: bytes) -> tuple[int, int]:
    """Where the gap begins and ends, if this is a B-tree page; else it ends at 0."""
    start = _FILE_HEADER_BYTES if page.startswith(_FILE_START) else 0
    kind, cells, back = _HEADER.unpack_from(page, start)
    header_bytes = _HEADER_BYTES.get(kind)
    if header_bytes is None:
        return 0, 0
    front = start + header_bytes + 2 * cells
    return (front, back) if front <= back <= PAGE_BYTES else (0, 0)
