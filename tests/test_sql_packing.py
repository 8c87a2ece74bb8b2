"""Pages as they are kept: without the zeros in their middle, and the same to the byte."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.errors import EngineFailed
from stead.storage.sql import PAGE_BYTES, pack, unpack


@given(
    head=st.binary(max_size=120),
    runs=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=60)), max_size=6),
    at_file_start=st.booleans(),
)
def test_any_page_comes_back_to_the_byte(head: bytes, runs: list[tuple[int, bytes]], at_file_start: bool) -> None:
    """Whatever the bytes claim to be, also with a header that lies about its gap, nothing is lost."""
    data = (b"SQLite format 3\0" if at_file_start else b"") + head + b"".join(bytes(zeros) + rest for zeros, rest in runs)
    page = data[:PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
    assert unpack(pack(page)) == page


def test_the_pages_of_a_database_shrink_to_what_is_in_them(tmp_path: Path) -> None:
    """A small table takes its rows and little more; full pages and those of large values stay whole."""
    file = tmp_path / "some.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA auto_vacuum=FULL")
        database.execute("CREATE TABLE small (id INTEGER PRIMARY KEY, n INTEGER)")
        database.execute("INSERT INTO small VALUES (1, 1)")
        database.execute("CREATE TABLE large (body BLOB)")
        database.execute("INSERT INTO large VALUES (randomblob(20000))")
    database.close()
    image = file.read_bytes()
    pages = [image[at : at + PAGE_BYTES] for at in range(0, len(image), PAGE_BYTES)]
    packed = [pack(page) for page in pages]
    assert [unpack(data) for data in packed] == pages
    assert sum(len(data) < 64 for data in packed) >= 2  # the small table, and the map of pages
    assert sum(map(len, packed)) < 20_000 + 2 * PAGE_BYTES


@pytest.mark.parametrize("damaged", [b"\xff\xffabc", (5).to_bytes(2, "big") + b"abc", bytes(PAGE_BYTES + 3)])
def test_what_no_page_was_packed_into_is_refused(damaged: bytes) -> None:
    """Damaged bytes are an `EngineFailed`, never a page of another length."""
    with pytest.raises(EngineFailed, match="damaged"):
        unpack(damaged)
