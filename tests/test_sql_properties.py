"""Any sequence of statements, commits, rollbacks and reopenings does in an actor what it does in plain SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.errors import EngineFailed, SqlError
from stead.storage.sql import SqlDatabase
from tests.test_sql import MemoryPages

Operation: TypeAlias = tuple[str, str, tuple[object, ...]]  # what to do, the SQL, its parameters

SCHEMA = (
    "CREATE TABLE a (id INTEGER PRIMARY KEY, n INTEGER, body TEXT)",
    "CREATE TABLE b (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES a(id) DEFERRABLE INITIALLY DEFERRED, name TEXT UNIQUE)",
)


class Mismatch(AssertionError):
    """The actor's database and plain SQLite differ."""


class Twins:
    """The same operations on both databases; `check` compares them."""

    def __init__(self, pages: MemoryPages) -> None:
        self.pages = pages
        self.ours = SqlDatabase(pages)
        self.plain = sqlite3.connect(":memory:", isolation_level=None)
        self.plain.execute("PRAGMA foreign_keys = ON")
        self.depth = 0

    def run(self, operation: Operation) -> None:
        kind, query, params = operation
        if kind == "sql":
            self._both(query, params)
        elif kind == "savepoint":
            self._begin()
            self.ours.savepoint()
            self.plain.execute("SAVEPOINT s")
            self.depth += 1
        elif kind in {"release", "rollback_to"}:
            self._leave(kind)
        else:
            while self.depth:
                self._leave("release")
            self._end(kind)

    def check(self) -> None:
        integrity = self.ours.fetch_value("PRAGMA integrity_check")
        if integrity != "ok":
            raise Mismatch(integrity)
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        for query in [tables, *(f"SELECT * FROM {name} ORDER BY id" for (name,) in self.plain.execute(tables).fetchall())]:
            expected = self.plain.execute(query).fetchall()
            found = [tuple(row.values()) for row in self.ours.fetch_all(query)]
            if found != expected:
                raise Mismatch(f"{query}: {found!r:.200} instead of {expected!r:.200}")
        self.ours.rollback()

    def _begin(self) -> None:
        self.ours.begin()
        if not self.plain.in_transaction:
            self.plain.execute("BEGIN")

    def _both(self, query: str, params: tuple[object, ...]) -> None:
        self._begin()
        expected: object
        found: object
        try:
            expected = max(self.plain.execute(query, params).rowcount, 0)
        except sqlite3.Error as error:
            expected = str(error)
        try:
            found = self.ours.execute(query, params)
        except SqlError as error:
            found = str(error).partition(" (in:")[0]
        if found != expected:
            raise Mismatch(f"{query}: {found!r} instead of {expected!r}")

    def _leave(self, kind: str) -> None:
        if self.depth == 0:
            return
        self.depth -= 1
        if kind == "release":
            self.ours.release()
        else:
            self.ours.rollback_to()
            self.plain.execute("ROLLBACK TO s")
        self.plain.execute("RELEASE s")

    def _end(self, kind: str) -> None:
        self._begin()
        if kind != "rollback":
            try:
                self.plain.execute("COMMIT")
            except sqlite3.IntegrityError:
                with pytest.raises(SqlError, match="constraints were violated"):
                    self.ours.commit()
                kind = "rollback"
            else:
                self.ours.commit()
        if kind == "rollback":
            self.ours.rollback()
            self.plain.execute("ROLLBACK")
        if kind == "reopen":
            self.ours.close()
            self.check()
        elif kind == "export" and self.pages.count():
            _check_export(self.ours.serialize(), self.plain)

    def close(self) -> None:
        self.ours.close()
        self.plain.close()


def _check_export(data: bytes, plain: sqlite3.Connection) -> None:
    copy = sqlite3.connect(":memory:")
    try:
        copy.deserialize(data)
        if list(copy.iterdump()) != list(plain.iterdump()):
            raise Mismatch("the export differs")
    finally:
        copy.close()


def replay(operations: Sequence[Operation], pages: MemoryPages) -> None:
    """Run the operations; raises Mismatch as soon as a reopened database differs."""
    twins = Twins(pages)
    try:
        for query in SCHEMA:
            twins.run(("sql", query, ()))
        for operation in operations:
            twins.run(operation)
        twins.run(("reopen", "", ()))
    finally:
        twins.close()


ids = st.integers(1, 40)
sizes = st.sampled_from([0, 10, 900, 5000, 20_000])
STATEMENTS = st.one_of(
    st.builds(lambda i, n, size: ("INSERT INTO a VALUES (?, ?, printf('%0*d', ?, 7))", (i, n, size)), ids, ids, sizes),
    st.builds(lambda n, size: ("INSERT OR REPLACE INTO a SELECT id + 40, ?, printf('%0*d', ?, 7) FROM a", (n, size)), ids, sizes),
    st.builds(lambda low, high: ("DELETE FROM a WHERE id BETWEEN ? AND ?", (low, high)), ids, ids),
    st.builds(lambda i, size: ("UPDATE a SET n = n + 1, body = printf('%0*d', ?, 7) WHERE id >= ?", (size, i)), ids, sizes),
    st.builds(lambda i, parent: ("INSERT INTO b VALUES (?, ?, 'name' || ?)", (i, parent, i % 7)), ids, ids),
    st.builds(lambda i: ("UPDATE OR REPLACE b SET name = 'name' || (id % ?)", (i,)), ids),
    st.just(("DELETE FROM b", ())),
    st.just(("DELETE FROM a", ())),
    st.sampled_from([
        ("CREATE INDEX i ON a (n, id)", ()), ("DROP INDEX i", ()), ("ALTER TABLE b ADD COLUMN more DEFAULT 7", ()),
        ("CREATE TABLE c AS SELECT * FROM a", ()), ("DROP TABLE c", ()), ("ALTER TABLE c RENAME COLUMN n TO m", ()),
    ]),
)  # fmt: skip
STEPS = st.sampled_from(["commit", "rollback", "reopen", "export", "savepoint", "release", "rollback_to"])
OPERATIONS = st.lists(
    st.one_of(
        STATEMENTS.map(lambda statement: ("sql", *statement)),
        STATEMENTS.map(lambda statement: ("sql", *statement)),
        STEPS.map(lambda kind: (kind, "", ())),
    ),
    max_size=30,
)


@settings(max_examples=300, derandomize=True)
@given(OPERATIONS)
def test_an_actors_database_is_sqlite(operations: list[Operation]) -> None:
    """Tables, row counts and errors are those of plain SQLite after any history, and the pages alone carry them."""
    replay(operations, MemoryPages())


HISTORY: list[Operation] = []
for step in range(6):
    HISTORY += [
        ("sql", "INSERT INTO a VALUES (?, ?, printf('%05000d', 7))", (step + 1, step)),
        ("sql", "INSERT INTO b VALUES (?, ?, ?)", (step + 1, step + 1, f"name{step}")),
        ("reopen", "", ()),
    ]


class LosingPages(MemoryPages):
    """Loses one write without a word."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost = lost

    def write(self, number: int, data: bytes) -> None:
        if self.writes == self.lost:
            old = self.pages[number] if number < len(self.pages) else bytes(len(data))
            super().write(number, old)
        else:
            super().write(number, data)


def test_the_check_finds_a_lost_page() -> None:
    """Planted bug: whichever single page write is lost, the comparison above notices."""
    whole = MemoryPages()
    replay(HISTORY, whole)
    assert whole.writes > 20
    for lost in range(whole.writes):
        with pytest.raises((Mismatch, EngineFailed)):
            replay(HISTORY, LosingPages(lost))
