"""What one statement, one result and one turn may take. The same in development and production.

SQLite enforces the first group itself. The others are counted in virtual machine steps and bytes, never in time, so the same
statement on the same database always has the same outcome.
"""

from __future__ import annotations

import apsw

from stead.storage.sql.vfs import PAGE_BYTES

VALUE_BYTES_MAX = 2 * 1024 * 1024  # a row, a text or a blob: what a value of `storage.put` may be
SQL_BYTES_MAX = 100 * 1024
COLUMNS_MAX = 100  # of a table, an index, a result; terms of SET, ORDER BY, GROUP BY, VALUES
PARAMETERS_MAX = 100
FUNCTION_ARGUMENTS_MAX = 32
LIKE_PATTERN_BYTES_MAX = 50  # matching is quadratic in it
EXPRESSION_DEPTH_MAX = 100
COMPOUND_SELECT_MAX = 100
TRIGGER_DEPTH_MAX = 50  # how far a trigger may set off itself
PROGRAM_OPS_MAX = 250_000  # of one prepared statement: bounds the memory it takes

DATABASE_BYTES_MAX = 10 * 1024 * 1024 * 1024  # what an actor may hold at all
CACHE_BYTES = 512 * 1024  # clean pages kept in memory between turns, of each open database
STATEMENTS_CACHED = 32  # prepared statements kept, of each open database

STATEMENT_STEPS_MAX = 20_000_000  # 0.2 to 1 s, during which nobody else of this process runs
PROGRESS_STEPS = 1_000  # how often steps and memory are looked at; a look costs about 1 % at this rate
STATEMENT_BYTES_MAX = 128 * 1024 * 1024  # memory one statement may take: sorting, building an index, changed pages
TURN_BYTES_MAX = 128 * 1024 * 1024  # pages a turn may have changed before a statement: they stay in memory until its commit
RESULT_BYTES_MAX = 32 * 1024 * 1024  # what a message may hold
ROW_BYTES = 128  # what a row counts for in RESULT_BYTES_MAX beside its texts and blobs: a dict ...
CELL_BYTES = 32  # ... and its numbers


_ENFORCED_BY_SQLITE = (
    (apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
    (apsw.SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
    (apsw.SQLITE_LIMIT_COLUMN, COLUMNS_MAX),
    (apsw.SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS_MAX),
    (apsw.SQLITE_LIMIT_FUNCTION_ARG, FUNCTION_ARGUMENTS_MAX),
    (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_PATTERN_BYTES_MAX),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, EXPRESSION_DEPTH_MAX),
    (apsw.SQLITE_LIMIT_COMPOUND_SELECT, COMPOUND_SELECT_MAX),
    (apsw.SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX),
    (apsw.SQLITE_LIMIT_VDBE_OP, PROGRAM_OPS_MAX),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
    (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_SETTINGS = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),  # no writable_schema, no writing to the tables behind a full-text index
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),  # a misspelt "column" is an error, not a text
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
)
# Nothing but COMMIT may write to the file, so that a turn is in memory until it ends: no journal file, no spilling of the cache.
# EXCLUSIVE: nobody else ever changes the pages, so SQLite need not look whether somebody did. Flushing is the actor's commit.
_PRAGMAS = f"""
    PRAGMA page_size={PAGE_BYTES};
    PRAGMA locking_mode=EXCLUSIVE;
    PRAGMA journal_mode=MEMORY;
    PRAGMA synchronous=OFF;
    PRAGMA temp_store=MEMORY;
    PRAGMA cache_size=-{CACHE_BYTES // 1024};
    PRAGMA cache_spill=OFF;
    PRAGMA auto_vacuum=FULL;
    PRAGMA max_page_count={DATABASE_BYTES_MAX // PAGE_BYTES};
"""


def apply_limits(connection: apsw.Connection) -> None:
    """Configure a connection that has just been opened. Prepares the first page of an empty one."""
    for setting, value in _SETTINGS:
        connection.config(setting, value)
    connection.execute(_PRAGMAS).fetchall()
    for limit, value in _ENFORCED_BY_SQLITE:
        connection.limit(limit, value)
