"""`sql_database "reports" {}`: a SQLite database that all units share, as `env.REPORTS.prepare("SELECT …").bind(…).all()`."""

from stead.bindings.database.actor import DATABASE, DatabaseActor
from stead.bindings.database.client import Database, PreparedStatement
from stead.bindings.database.migrations import Applied, Migration
from stead.bindings.database.result import ExecResult, SqlMeta, SqlResult
from stead.bindings.database.statements import SqlStatement, split_statements

__all__ = [
    "DATABASE",
    "Applied",
    "Database",
    "DatabaseActor",
    "ExecResult",
    "Migration",
    "PreparedStatement",
    "SqlMeta",
    "SqlResult",
    "SqlStatement",
    "split_statements",
]
