"""What SQL inside an actor may not do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stead.errors import Invalid, SqlError
from stead.storage.sql import SqlDatabase
from tests.test_sql import MemoryPages


@pytest.fixture
def db() -> Iterator[SqlDatabase]:
    database = SqlDatabase(MemoryPages())
    database.script("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO items VALUES (1, 'a')")
    database.commit()
    yield database
    assert database.fetch_all("SELECT * FROM items") == [{"id": 1, "name": "a"}], "a refused statement changed something"
    database.commit()
    database.close()


REFUSED = {
    "transaction": [
        "BEGIN", "begin immediate", "COMMIT", "END", "ROLLBACK", "SAVEPOINT nested", "RELEASE nested", "ROLLBACK TO nested",
        "/* a */ COMMIT -- b", "EXPLAIN COMMIT", "EXPLAIN QUERY PLAN ROLLBACK", ";;COMMIT", "COMMIT;",
    ],
    "one database": ["ATTACH 'x' AS y", "ATTACH ':memory:' AS y", "DETACH main"],
    "given back": ["VACUUM", "VACUUM INTO 'x'", "vacuum main"],
    "temporary": [
        "CREATE TEMP TABLE t (x)", "CREATE TEMPORARY VIEW v AS SELECT 1", "CREATE TABLE temp.t (x)",
        "CREATE TABLE \"temp\".t AS SELECT 1",
        "CREATE TEMP TRIGGER t AFTER INSERT ON items BEGIN SELECT 1; END", "CREATE VIRTUAL TABLE temp.t USING fts5(x)",
    ],
    "PRAGMA": [
        "PRAGMA journal_mode = WAL", "PRAGMA writable_schema = 1", "PRAGMA cache_size", "PRAGMA main.page_size = 512",
        "PRAGMA locking_mode(NORMAL)", "PRAGMA query_only = 0", "/**/pragma/**/synchronous", "EXPLAIN PRAGMA cache_spill = ON",
        "PRAGMA foreign_keys = OFF", "PRAGMA schema_version = 7", "PRAGMA temp_store_directory = '/'", "PRAGMA wal_checkpoint",
    ],
    "not available": [
        "SELECT load_extension('x')", "SELECT fts3_tokenizer('x')", "WITH a AS (SELECT LOAD_EXTENSION('x')) SELECT * FROM a",
        "SELECT sqlite_log(1, 'x')", "SELECT sqlite_compileoption_get(1)", "CREATE VIRTUAL TABLE t USING dbstat",
        "CREATE VIRTUAL TABLE t USING fts4(x)",
    ],
    "_stead_": [
        "CREATE TABLE _stead_t (x)", "CREATE TABLE \"_STEAD_t\" (x)", "CREATE INDEX [_Stead_i] ON items (name)",
        "CREATE VIEW `_stead_v` AS SELECT 1", "CREATE TRIGGER _stead_r AFTER INSERT ON items BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE _stead_f USING fts5(x)", "ALTER TABLE items RENAME TO _stead_x",
        "ALTER TABLE items RENAME/**/TO\n\"_STEAD_x\"",
        "ALTER TABLE items RENAME TO'_stead_x'", "ALTER TABLE items RENAME TO\ufeff_stead_x", "CREATE TABLE _stead_a AS SELECT 1",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "query"), [(reason, query) for reason in REFUSED for query in REFUSED[reason]])
def test_refused_with_a_reason(db: SqlDatabase, reason: str, query: str) -> None:
    """Each is refused by every way in, says why or what to do instead, and the turn goes on in its transaction."""
    for call in (db.execute, db.fetch_all, db.fetch_value):
        with pytest.raises(Invalid, match=reason):
            call(query)
    with pytest.raises(Invalid, match=reason):
        db.script(f"INSERT INTO items VALUES (2, 'b'); {query}")
    assert db.in_transaction and db.fetch_value("SELECT count(*) FROM items") == 1


def test_functions_behind_the_known_names() -> None:
    """Functions of the command line shell and of ALTER TABLE cannot be called."""
    db = SqlDatabase(MemoryPages())
    for query in ("SELECT readfile('/etc/passwd')", "SELECT writefile('x', 'y')", "SELECT sqlite_rename_table(1,2,3,4,5,6,7)"):
        with pytest.raises(SqlError, match="no such function"):
            db.execute(query)


def test_our_commands_do_not_open_a_door(db: SqlDatabase) -> None:
    """The texts that the database itself runs, already compiled, are refused to the user all the same."""
    for _ in range(3):
        db.begin()
        db.savepoint()
        db.fetch_all("INSERT INTO items VALUES (2, 'b') RETURNING id")
        db.rollback_to()
        db.savepoint()
        db.release()
        db.commit()
        db.begin(read_only=True)
        db.begin(read_only=False)
        db.rollback()
    for query in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT nested", "RELEASE nested", "ROLLBACK TO nested", "SAVEPOINT fetch"):
        with pytest.raises(Invalid, match="transaction"):
            db.execute(query)
    with pytest.raises(Invalid, match="PRAGMA"):
        db.execute("PRAGMA query_only=0")


def test_the_schema_cannot_be_written(db: SqlDatabase) -> None:
    """Neither the schema table nor the tables behind a full-text index take writes, and names of SQLite's are its own."""
    db.execute("CREATE VIRTUAL TABLE search USING fts5(x)")
    for query in (
        "UPDATE sqlite_schema SET sql = ''",
        "INSERT INTO sqlite_master VALUES ('table', '_stead_x', '_stead_x', 0, '')",
        "DELETE FROM search_data",
        "CREATE TABLE sqlite_x (x)",
        "INSERT INTO temp.sqlite_schema VALUES (1, 1, 1, 1, 1)",
    ):
        with pytest.raises(SqlError):
            db.execute(query)


@pytest.mark.parametrize(
    "query",
    [
        "PRAGMA table_info(items)",
        "PRAGMA main.table_xinfo = items",
        "SELECT name FROM pragma_table_info('items')",
        "PRAGMA table_list",
        "PRAGMA foreign_key_check",
        "PRAGMA integrity_check",
        "PRAGMA quick_check(items)",
        "PRAGMA function_list",
        "PRAGMA foreign_keys",
        "PRAGMA page_count",
        "EXPLAIN QUERY PLAN SELECT * FROM items",
        "WITH _stead_x AS (SELECT 1 AS one) SELECT one FROM _stead_x",
        "SELECT 'COMMIT; ATTACH' AS text -- BEGIN",
    ],
)
def test_allowed_to_ask(db: SqlDatabase, query: str) -> None:
    """Questions about the schema and the database are answered."""
    if "foreign_key_check" not in query:
        assert db.fetch_all(query)
    else:
        assert db.fetch_all(query) == []


def test_allowed_to_change(db: SqlDatabase) -> None:
    """Names that only resemble a reserved one, a schema version of the user's, and deferring constraints are fine."""
    db.script(
        """
        CREATE TABLE my_stead_t (x);
        ALTER TABLE my_stead_t RENAME TO our_stead_t;
        DROP TABLE our_stead_t;
        PRAGMA user_version = 3;
        PRAGMA defer_foreign_keys = ON;
        ANALYZE;
        REINDEX;
        """
    )
    db.commit()
    assert db.fetch_value("PRAGMA user_version") == 3
    assert db.fetch_value("PRAGMA defer_foreign_keys") == 0
