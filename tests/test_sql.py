"""The database inside an actor: transactions, statements, values, bounds and errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stead.errors import QUERY_CHARS_MAX, EngineFailed, Invalid, SqlError, TransactionLost
from stead.storage.sql import PAGE_BYTES, SqlDatabase
from stead.storage.sql import limits as bounds


class MemoryPages:
    """Pages in a list, as an actor's turn shows them; counts what was asked of it."""

    def __init__(self) -> None:
        self.pages: list[bytes] = []
        self.reads = self.writes = 0
        self.failure: BaseException | None = None

    def count(self) -> int:
        return len(self.pages)

    def read(self, number: int) -> bytes:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.pages[number]

    def write(self, number: int, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.writes += 1
        self.pages.extend([bytes(PAGE_BYTES)] * (number + 1 - len(self.pages)))
        self.pages[number] = data

    def truncate(self, count: int) -> None:
        del self.pages[count:]


@pytest.fixture
def pages() -> MemoryPages:
    return MemoryPages()


@pytest.fixture
def db(pages: MemoryPages) -> SqlDatabase:
    return SqlDatabase(pages)


@pytest.fixture
def items(db: SqlDatabase) -> SqlDatabase:
    db.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL)")
    db.commit()
    return db


RUNAWAY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


# Transactions


def test_reading_an_empty_database_writes_nothing(db: SqlDatabase, pages: MemoryPages) -> None:
    """A turn that only reads leaves no pages, even in a database that was never written."""
    assert db.fetch_all("SELECT * FROM sqlite_schema") == []
    assert db.size_bytes() == 0
    db.commit()
    db.close()
    assert pages.pages == [] and pages.writes == 0


def test_pages_see_nothing_before_commit(items: SqlDatabase, pages: MemoryPages) -> None:
    """Pages are written at commit and not before, however much the turn writes."""
    before = list(pages.pages)
    for number in range(500):
        items.execute("INSERT INTO items VALUES (?, ?, ?)", (number, "x" * 2000 + str(number), 1.5))
    assert pages.pages == before
    assert items.size_bytes() > len(before) * PAGE_BYTES
    items.commit()
    assert items.size_bytes() == len(pages.pages) * PAGE_BYTES > 500 * 2000


def test_rollback_forgets_everything(items: SqlDatabase, pages: MemoryPages) -> None:
    """After rollback the database is as it was at begin, and the pages were not touched."""
    before, writes = list(pages.pages), pages.writes
    items.execute("INSERT INTO items (name) VALUES ('a')")
    items.execute("CREATE TABLE other (x)")
    items.rollback()
    assert (pages.pages, pages.writes) == (before, writes)
    assert items.fetch_value("SELECT count(*) FROM items") == 0
    assert items.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name = 'other'") == 0


def test_a_database_survives_close(items: SqlDatabase, pages: MemoryPages) -> None:
    """What was committed is there for another connection, what was not is gone, and a closed database opens again by itself."""
    items.execute("INSERT INTO items (name) VALUES ('kept')")
    items.commit()
    items.execute("INSERT INTO items (name) VALUES ('lost')")
    items.close()
    assert not items.in_transaction
    assert items.fetch_value("SELECT group_concat(name) FROM items") == "kept"
    assert SqlDatabase(pages).fetch_value("SELECT group_concat(name) FROM items") == "kept"


def test_begin_commit_and_rollback_may_be_repeated(items: SqlDatabase) -> None:
    """begin is idempotent in a turn; commit and rollback without a transaction do nothing."""
    items.begin()
    items.begin()
    items.fetch_all("SELECT * FROM items")
    assert items.in_transaction
    items.commit()
    items.commit()
    items.rollback()
    assert not items.in_transaction


def test_savepoints_nest(items: SqlDatabase) -> None:
    """An inner rollback undoes the inner part only, an outer one both."""
    items.savepoint()
    items.execute("INSERT INTO items (name) VALUES ('outer')")
    items.savepoint()
    items.execute("INSERT INTO items (name) VALUES ('inner')")
    items.rollback_to()
    assert items.fetch_value("SELECT group_concat(name) FROM items") == "outer"
    items.savepoint()
    items.execute("INSERT INTO items (name) VALUES ('inner')")
    items.release()
    assert items.fetch_value("SELECT count(*) FROM items") == 2
    items.rollback_to()
    items.commit()
    assert items.fetch_value("SELECT count(*) FROM items") == 0


def test_a_small_write_dirties_few_pages(items: SqlDatabase, pages: MemoryPages) -> None:
    """One changed row writes one page and reads none."""
    items.execute("INSERT INTO items (name) VALUES ('a')")
    items.commit()
    pages.reads = pages.writes = 0
    items.execute("UPDATE items SET price = 2.0 WHERE id = 1")
    items.commit()
    assert (pages.reads, pages.writes) == (0, 1)


def test_a_database_that_shrinks_gives_pages_back(items: SqlDatabase, pages: MemoryPages) -> None:
    """Deleting rows truncates the pages at the commit."""
    for number in range(100):
        items.execute("INSERT INTO items VALUES (?, ?, 0)", (number, "x" * 4000 + str(number)))
    items.commit()
    full = pages.count()
    items.execute("DELETE FROM items")
    items.commit()
    assert pages.count() < full / 10
    assert SqlDatabase(pages).fetch_value("PRAGMA integrity_check") == "ok"


def test_a_failing_handover_loses_the_transaction(items: SqlDatabase, pages: MemoryPages) -> None:
    """An error of the pages at commit passes as itself; the turn has to be rolled back, and then the old rows are there."""
    before = list(pages.pages)
    items.execute("INSERT INTO items (name) VALUES ('a')")
    pages.failure = EngineFailed("no room")
    with pytest.raises(EngineFailed, match="^no room$"):
        items.commit()
    pages.failure, pages.pages = None, before
    for attempt in (items.commit, items.begin, lambda: items.fetch_all("SELECT * FROM items")):
        with pytest.raises(TransactionLost):
            attempt()
    items.rollback()
    assert items.fetch_all("SELECT * FROM items") == []


@pytest.mark.parametrize("failure", [EngineFailed("gone"), KeyError("gone"), KeyboardInterrupt()])
def test_errors_of_the_pages_pass_as_themselves(
    items: SqlDatabase, pages: MemoryPages, failure: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `pages.read` raises reaches the caller unchanged, nothing is printed, and afterwards the database works."""
    items.close()
    pages.failure = failure
    with pytest.raises(type(failure)) as caught:
        items.fetch_all("SELECT * FROM items")
    assert caught.value is failure
    pages.failure = None
    items.rollback()
    assert items.fetch_all("SELECT * FROM items") == []
    assert capsys.readouterr() == ("", "")


def test_an_export_is_a_normal_file(items: SqlDatabase, tmp_path: Path) -> None:
    """The serialized pages open in any SQLite."""
    items.execute("INSERT INTO items VALUES (1, 'lamp', 9.5)")
    items.commit()
    (tmp_path / "actor.sqlite").write_bytes(items.serialize())
    other = sqlite3.connect(tmp_path / "actor.sqlite")
    try:
        assert other.execute("SELECT * FROM items").fetchall() == [(1, "lamp", 9.5)]
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        other.close()


def test_reading_turns_cannot_write(items: SqlDatabase) -> None:
    """With read_only every writing statement is refused, also one that was compiled before; the next turn may write."""
    insert = "INSERT INTO items (name) VALUES (?)"
    items.execute(insert, ("a",))
    items.commit()
    items.begin(read_only=True)
    for query in (insert, insert + " RETURNING id"):
        with pytest.raises(SqlError, match="may only read"):
            items.fetch_all(query, ("b",))
    assert items.fetch_value("SELECT count(*) FROM items") == 1
    items.rollback()
    items.begin(read_only=False)
    assert items.execute(insert, ("b",)) == 1


def test_time_is_the_actors_clock(pages: MemoryPages) -> None:
    """CURRENT_TIMESTAMP and datetime('now') follow the clock that was given, each database its own."""
    first, second = SqlDatabase(pages, lambda: 1_000), SqlDatabase(MemoryPages(), lambda: 1_700_000_000_000)
    assert first.fetch_value("SELECT datetime('now')") == "1970-01-01 00:00:01"
    assert second.fetch_value("SELECT CURRENT_TIMESTAMP") == "2023-11-14 22:13:20"
    assert first.fetch_value("SELECT unixepoch()") == 1
    assert isinstance(SqlDatabase(MemoryPages()).fetch_value("SELECT unixepoch()"), int)


# Statements and values


def test_execute_counts_rows(items: SqlDatabase) -> None:
    """execute returns the rows it wrote, and 0 for statements that write none."""
    assert items.execute("INSERT INTO items (name) VALUES (?), (?)", ("a", "b")) == 2
    assert items.execute("UPDATE items SET price = 1") == 2
    assert items.execute("UPDATE items SET price = 1 WHERE id = 77") == 0
    assert items.execute("SELECT * FROM items") == 0
    assert items.execute("CREATE TABLE t (x)") == 0
    assert items.execute("DELETE FROM items WHERE id = 1") == 1


def test_fetching(items: SqlDatabase) -> None:
    """Rows are dicts; fetch_one and fetch_value look at the first one."""
    items.execute("INSERT INTO items VALUES (1, 'a', 1.5), (2, 'b', NULL)")
    assert items.fetch_all("SELECT * FROM items ORDER BY id") == [
        {"id": 1, "name": "a", "price": 1.5},
        {"id": 2, "name": "b", "price": None},
    ]
    assert items.fetch_one("SELECT name FROM items ORDER BY id") == {"name": "a"}
    assert items.fetch_one("SELECT name FROM items WHERE id = 3") is None
    assert items.fetch_value("SELECT count(*) FROM items") == 2
    assert items.fetch_value("SELECT name FROM items WHERE id = 3") is None
    assert items.fetch_all("DELETE FROM items WHERE id = 1") == []


def test_named_parameters(items: SqlDatabase) -> None:
    """A single dict gives parameters by name; a missing name is an error that says which."""
    items.execute("INSERT INTO items VALUES (:id, :name, 0)", ({"id": 5, "name": "a"},))
    assert items.fetch_value("SELECT name FROM items WHERE id = :id", ({"id": 5},)) == "a"
    with pytest.raises(SqlError, match="'other'"):
        items.fetch_value("SELECT :other", ({"id": 5},))


@pytest.mark.parametrize("value", [None, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "é\0x", "", b"\0\xff", b""])
def test_values_come_back_as_they_went(db: SqlDatabase, value: object) -> None:
    """Each type that SQL takes comes back with its type and value."""
    result = db.fetch_value("SELECT ?", (value,))
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ((1, [2]), "parameter 2 is of type list"),
        ((object(), 1), "parameter 1 is of type object"),
        ((1, 2**63), "parameter 2 is an int of over 64 bits"),
        ((float("nan"), 1), "parameter 1 is NaN"),
        (({"a": {1}},), "parameter :a is of type set"),
        (("\ud800", 1), "not valid Unicode"),
        ((1,), "Incorrect number of bindings"),
        ((1, 2, 3), "Incorrect number of bindings"),
    ],
)
def test_wrong_parameters_are_named(db: SqlDatabase, params: tuple[object, ...], problem: str) -> None:
    """A parameter that SQLite cannot hold is refused with its place and type, and nothing is lost."""
    with pytest.raises(SqlError, match=problem):
        db.fetch_all("SELECT ?, ?", params)
    assert db.fetch_value("SELECT ?", (True,)) == 1


def test_columns_of_one_name_are_refused(items: SqlDatabase) -> None:
    """A dict cannot hold two columns of one name; the statement did not run, even if it would have written or found nothing."""
    with pytest.raises(SqlError, match="'id'.*AS"):
        items.fetch_all("SELECT a.id, b.id FROM items a, items b")
    with pytest.raises(SqlError, match="'id'"):
        items.fetch_all("INSERT INTO items (name) VALUES ('a') RETURNING id, id")
    assert items.fetch_value("SELECT count(*) FROM items") == 0


def test_returning_runs_to_its_end(items: SqlDatabase) -> None:
    """fetch_one of a writing statement gives the first row, and all rows are written."""
    assert items.fetch_one("INSERT INTO items (name) VALUES ('a'), ('b'), ('c') RETURNING id") == {"id": 1}
    items.commit()
    assert items.fetch_value("SELECT count(*) FROM items") == 3


def test_one_statement_at_a_time(items: SqlDatabase) -> None:
    """execute and fetch take one statement, whatever comments and semicolons are around it; of two, neither runs."""
    for query in ("INSERT INTO items (name) VALUES ('a'); DELETE FROM items", "/* ; */ DELETE FROM items; ; SELECT 1"):
        for call in (items.execute, items.fetch_all):
            with pytest.raises(SqlError, match="script"):
                call(query)
    assert items.fetch_value(" -- one; two\n SELECT count(*) FROM items; -- done; /* \n ; /* x */ ;") == 0
    assert items.execute("INSERT INTO items (name) VALUES ('x;y');") == 1
    assert items.execute("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; SELECT 1; END;") == 0
    assert items.execute("") == 0 and items.fetch_all("-- nothing") == []


def test_a_script_runs_whole_or_not_at_all(items: SqlDatabase) -> None:
    """A failing statement undoes those before it in the script, and nothing before the script."""
    items.execute("INSERT INTO items (name) VALUES ('before')")
    items.script("INSERT INTO items (name) VALUES ('a'); SELECT * FROM items; CREATE TABLE t (x);")
    with pytest.raises(SqlError, match="UNIQUE"):
        items.script("CREATE TABLE u (x); INSERT INTO items (name) VALUES ('b'), ('a'); CREATE TABLE v (x)")
    items.commit()
    assert items.fetch_value("SELECT group_concat(name ORDER BY id) FROM items") == "before,a"
    assert items.fetch_value("SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'") == "items,t"


def test_extensions_are_there(db: SqlDatabase, pages: MemoryPages) -> None:
    """Full-text search, JSON, R*Tree and mathematics work, and their tables survive a reopening."""
    db.script(
        """
        CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
        CREATE VIRTUAL TABLE search USING fts5(body, content='notes', content_rowid='id');
        CREATE TRIGGER noted AFTER INSERT ON notes BEGIN INSERT INTO search(rowid, body) VALUES (new.id, new.body); END;
        CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
        INSERT INTO boxes VALUES (1, 0, 10), (2, 20, 30);
        """
    )
    db.execute("INSERT INTO notes (body) VALUES ('the quick fox'), ('a slow dog')")
    db.commit()
    again = SqlDatabase(pages)
    assert again.fetch_value("SELECT highlight(search, 0, '[', ']') FROM search('fox')") == "the quick [fox]"
    assert again.fetch_value("SELECT id FROM boxes WHERE x0 <= 25 AND x1 >= 25") == 2
    assert again.fetch_value("""SELECT json_extract('{"a": [1, 2]}', '$.a[1]')""") == 2
    assert again.fetch_value("SELECT round(sqrt(2), 3)") == 1.414
    again.execute("INSERT INTO search(search) VALUES ('integrity-check')")
    again.execute("ALTER TABLE search RENAME TO found")
    assert again.fetch_value("SELECT count(*) FROM found('dog')") == 1


# Errors and bounds


def test_errors_carry_message_and_query(items: SqlDatabase) -> None:
    """Bad SQL is an SqlError with SQLite's words and the query, cut to a bounded length."""
    with pytest.raises(SqlError, match="no such column: nme") as caught:
        items.execute("SELECT nme, " + "'" + "x" * 500 + "' FROM items")
    assert caught.value.query.startswith("SELECT nme") and len(caught.value.query) == QUERY_CHARS_MAX + 1
    assert caught.value.constraint is None
    with pytest.raises(SqlError, match="no such column"):
        items.fetch_all('SELECT "nme" FROM items')


@pytest.mark.parametrize(
    ("query", "constraint"),
    [
        ("INSERT INTO items (name) VALUES ('x'), ('a')", "unique"),
        ("INSERT INTO items (id) VALUES (1)", "primarykey"),
        ("INSERT INTO parts VALUES (1, 77)", "foreignkey"),
        ("INSERT INTO parts VALUES (NULL, 1)", "notnull"),
        ("INSERT INTO parts VALUES (-1, 1)", "check"),
    ],
)
def test_constraints_undo_their_statement_only(items: SqlDatabase, query: str, constraint: str) -> None:
    """A violated constraint says its kind, undoes the whole statement, and leaves the turn as it was before it."""
    items.execute("CREATE TABLE parts (n INTEGER NOT NULL CHECK (n > 0), item INTEGER REFERENCES items)")
    items.execute("INSERT INTO items (name) VALUES ('a')")
    for call in (items.execute, items.fetch_all):
        with pytest.raises(SqlError, match="constraint failed") as caught:
            call(query)
        assert caught.value.constraint == constraint and not isinstance(caught.value, TransactionLost)
    items.commit()
    assert items.fetch_value("SELECT group_concat(name) FROM items") == "a"


def test_foreign_keys_left_violated_refuse_the_commit(items: SqlDatabase, pages: MemoryPages) -> None:
    """A deferred violation fails the commit; nothing is written, and the turn can be rolled back or mended."""
    items.execute("CREATE TABLE parts (item INTEGER REFERENCES items DEFERRABLE INITIALLY DEFERRED)")
    items.commit()
    writes = pages.writes
    items.execute("INSERT INTO parts VALUES (1)")
    with pytest.raises(SqlError, match="constraints were violated") as caught:
        items.commit()
    assert caught.value.constraint == "foreignkey" and pages.writes == writes
    items.execute("INSERT INTO items (id) VALUES (1)")
    items.commit()
    items.execute("DELETE FROM items")
    with pytest.raises(SqlError):
        items.commit()
    items.rollback()
    assert items.fetch_value("SELECT count(*) FROM items") == 1


@pytest.mark.parametrize(
    "query",
    [
        "INSERT OR ROLLBACK INTO items (name) VALUES ('a')",
        "DELETE FROM items",
        RUNAWAY + "INSERT INTO items SELECT i + 9, i, 0 FROM n",
    ],
)
def test_a_lost_transaction_is_seen(items: SqlDatabase, pages: MemoryPages, query: str) -> None:
    """Where SQLite undoes the whole turn, every later statement and the commit fail, until the turn is rolled back."""
    items.execute("CREATE TRIGGER never BEFORE DELETE ON items BEGIN SELECT RAISE(ROLLBACK, 'never'); END")
    items.execute("INSERT INTO items (name) VALUES ('a')")
    items.commit()
    before = list(pages.pages)
    items.savepoint()
    items.execute("INSERT INTO items (name) VALUES ('b')")
    with pytest.raises(TransactionLost, match="rolled the whole turn's SQL back"):
        items.execute(query)
    for attempt in (lambda: items.execute("INSERT INTO items (name) VALUES ('c')"), items.release, items.rollback_to, items.begin):
        with pytest.raises(TransactionLost):
            attempt()
    items.rollback()
    assert pages.pages == before
    assert items.fetch_value("SELECT group_concat(name) FROM items") == "a"


def test_a_lost_transaction_is_not_committed(items: SqlDatabase) -> None:
    """An application that catches the error cannot commit what is left."""
    items.execute("INSERT INTO items (name) VALUES ('a')")
    with pytest.raises(TransactionLost):
        items.script("INSERT INTO items (name) VALUES ('b'); INSERT OR ROLLBACK INTO items (name) VALUES ('a')")
    with pytest.raises(TransactionLost):
        items.commit()


def test_a_statement_without_end_is_stopped(items: SqlDatabase) -> None:
    """A statement is stopped after a number of steps that does not depend on time; a reading one leaves the turn usable."""
    items.execute("INSERT INTO items (name) VALUES ('a')")
    with pytest.raises(SqlError, match="steps") as caught:
        items.fetch_value(RUNAWAY + "SELECT count(*) FROM n")
    assert not isinstance(caught.value, TransactionLost)
    items.commit()
    assert items.fetch_value("SELECT count(*) FROM items") == 1


def test_a_statement_that_eats_memory_is_stopped(items: SqlDatabase) -> None:
    """Sorting what does not fit is stopped, and the turn stays usable."""
    with pytest.raises(SqlError, match="bytes of memory"):
        items.fetch_value(RUNAWAY + "SELECT randomblob(1000000) AS b FROM n ORDER BY b")
    assert items.execute("INSERT INTO items (name) VALUES ('a')") == 1


def test_a_turn_that_changes_too_much_is_stopped(db: SqlDatabase, pages: MemoryPages) -> None:
    """The pages a turn has changed stay in memory, so there is a bound on them; what the turn did before can be committed."""
    db.execute("CREATE TABLE t (x)")
    inserted = 0
    with pytest.raises(SqlError, match="several turns"):
        while True:
            inserted += db.execute("INSERT INTO t VALUES (zeroblob(2000000))")
    db.rollback()
    assert inserted * 2_000_000 < bounds.TURN_BYTES_MAX + 4_000_000
    assert pages.pages == []
    db.script("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(2000000)), (zeroblob(2000000))")
    db.commit()
    assert db.memory_bytes < 2 * bounds.CACHE_BYTES


def test_a_result_is_bounded(items: SqlDatabase) -> None:
    """Too many rows, or too large ones, are an error that says LIMIT; a statement that wrote them loses the turn."""
    with pytest.raises(SqlError, match="LIMIT"):
        items.fetch_all(RUNAWAY + "SELECT i FROM n")
    items.execute(RUNAWAY + "INSERT INTO items (name) SELECT printf('%0100000d', i) FROM n LIMIT 400")
    items.commit()
    items.savepoint()
    with pytest.raises(TransactionLost, match="LIMIT"):
        items.fetch_all("UPDATE items SET price = 7 RETURNING name")
    with pytest.raises(TransactionLost):
        items.commit()
    items.rollback()
    assert items.fetch_value("SELECT count(*) FROM items WHERE price = 7") == 0
    assert items.fetch_value("SELECT length(name) FROM items") == 100_000


def test_rows_that_cannot_be_given_lose_the_turn(items: SqlDatabase) -> None:
    """What a statement has written and cannot show is never kept; a mistake that SQLite finds itself undoes the statement alone."""
    items.execute("INSERT INTO items (name) VALUES ('a')")
    with pytest.raises(SqlError, match="overflow") as caught:
        items.fetch_all("INSERT INTO items (name) VALUES ('b'), ('c') RETURNING abs(id - id - 9223372036854775807 - 1)")
    assert not isinstance(caught.value, TransactionLost)
    assert items.fetch_value("SELECT group_concat(name) FROM items") == "a"
    with pytest.raises(TransactionLost, match="CAST"):
        items.fetch_value("INSERT INTO items (name) VALUES ('b') RETURNING CAST(x'ff' AS TEXT)")
    with pytest.raises(TransactionLost):
        items.fetch_value("SELECT 1")
    items.rollback()
    assert items.fetch_value("SELECT count(*) FROM items") == 0


@pytest.mark.parametrize(
    "query",
    [
        "SELECT '" + "x" * bounds.SQL_BYTES_MAX + "'",
        "SELECT " + ",".join(["1 AS a"] * (bounds.COLUMNS_MAX + 1)),
        "SELECT ?101",
        f"SELECT zeroblob({bounds.VALUE_BYTES_MAX + 1})",
        "SELECT 'a' LIKE '" + "x" * (bounds.LIKE_PATTERN_BYTES_MAX + 1) + "'",
        "SELECT max(" + ",".join("1" * (bounds.FUNCTION_ARGUMENTS_MAX + 1)) + ")",
        "SELECT " + " + ".join(["1"] * 200),
    ],
)
def test_limits_of_a_statement(db: SqlDatabase, query: str) -> None:
    """Text, columns, parameters, values, patterns and nesting are bounded, with an error and no harm to the turn."""
    with pytest.raises(SqlError):
        db.execute(query)
    assert db.fetch_value("SELECT 1") == 1


def test_damage_is_the_engines_failure(items: SqlDatabase, pages: MemoryPages) -> None:
    """A damaged database raises EngineFailed, never Invalid, and is never written over."""
    items.close()
    pages.pages[0] = b"\xff" * PAGE_BYTES
    damaged = list(pages.pages)
    with pytest.raises(EngineFailed, match="damaged"):
        items.execute("INSERT INTO items (name) VALUES ('a')")
    items.rollback()
    assert pages.pages == damaged


def test_text_that_is_not_unicode_is_explained(db: SqlDatabase) -> None:
    """A text that is not UTF-8 says how to read it."""
    with pytest.raises(SqlError, match="CAST"):
        db.fetch_value("SELECT CAST(x'ff' AS TEXT)")
    assert db.fetch_value("SELECT CAST(CAST(x'ff' AS TEXT) AS BLOB)") == b"\xff"


def test_memory_is_estimated(items: SqlDatabase) -> None:
    """An open database tells what it takes, a closed one nothing."""
    items.fetch_all("SELECT * FROM items")
    assert 64 * 1024 < items.memory_bytes < 2 * bounds.CACHE_BYTES
    items.close()
    assert items.memory_bytes == 0


def test_sql_errors_are_invalid_calls() -> None:
    """Whoever catches Invalid catches SQL's errors too."""
    assert issubclass(SqlError, Invalid) and issubclass(TransactionLost, SqlError)
