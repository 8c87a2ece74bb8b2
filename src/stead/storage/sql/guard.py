"""What SQL of the user's may not do, decided while SQLite compiles it.

SQLite asks its authorizer about every action that a statement, a trigger or a view would take, after parsing; so comments,
CTEs, EXPLAIN and several statements in one text make no difference. Refusing raises, before anything ran.

The guard protects three things: the turn is the only transaction; the pages are the only file; names that begin with
`_stead_` are Stead's.
"""

from __future__ import annotations

import re
from typing import Final

import apsw

from stead.errors import Invalid

RESERVED_PREFIX: Final = "_stead_"

# An identifier in the text that begins with the prefix. SQLite has no escapes in identifiers, so a name is spelled as it is.
_RESERVED_IN_TEXT: Final = re.compile(rf"(?<![\w$]){RESERVED_PREFIX}", re.IGNORECASE)

_TRANSACTION = "the turn is the transaction: it commits when the handler returns; for a part of it use self.storage.transaction()"
_ATTACH = "an actor has one database: ATTACH, DETACH and VACUUM INTO are not available; call another actor for its data"
_TEMPORARY = "temporary tables, views and triggers are not available: use a CTE (WITH …), or a table that you drop again"

_REFUSED_ACTIONS: Final = {
    apsw.SQLITE_TRANSACTION: _TRANSACTION,
    apsw.SQLITE_SAVEPOINT: _TRANSACTION,
    apsw.SQLITE_ATTACH: _ATTACH,
    apsw.SQLITE_DETACH: _ATTACH,
    apsw.SQLITE_CREATE_TEMP_TABLE: _TEMPORARY,
    apsw.SQLITE_CREATE_TEMP_VIEW: _TEMPORARY,
    apsw.SQLITE_CREATE_TEMP_TRIGGER: _TEMPORARY,
    apsw.SQLITE_CREATE_TEMP_INDEX: _TEMPORARY,
    apsw.SQLITE_DROP_TEMP_TABLE: _TEMPORARY,
    apsw.SQLITE_DROP_TEMP_VIEW: _TEMPORARY,
    apsw.SQLITE_DROP_TEMP_TRIGGER: _TEMPORARY,
    apsw.SQLITE_DROP_TEMP_INDEX: _TEMPORARY,
}
_CREATE_ACTIONS: Final = {
    apsw.SQLITE_CREATE_TABLE,
    apsw.SQLITE_CREATE_INDEX,
    apsw.SQLITE_CREATE_VIEW,
    apsw.SQLITE_CREATE_TRIGGER,
    apsw.SQLITE_CREATE_VTABLE,
}
_MODULES: Final = {"fts5", "fts5vocab", "rtree", "rtree_i32", "geopoly"}
_PRAGMAS_TO_ASK: Final = {
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list", "foreign_key_check",
    "quick_check", "integrity_check", "function_list", "collation_list", "compile_options",
}  # fmt: skip
_PRAGMAS_TO_READ: Final = {
    "foreign_keys", "page_count", "page_size", "freelist_count", "encoding", "schema_version", "data_version",
}  # fmt: skip
_PRAGMAS_TO_SET: Final = {"defer_foreign_keys", "user_version", "application_id"}  # kept in the pages, or gone with the turn
_FUNCTIONS_REFUSED: Final = {
    "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer",
    "sqlite_log", "sqlite_compileoption_get", "sqlite_compileoption_used",
}  # fmt: skip


class Guard:
    """The authorizer of one connection. `query` is the text being compiled; while `trusted`, statements are Stead's own."""

    __slots__ = ("query", "trusted")

    def __init__(self) -> None:
        self.query = ""
        self.trusted = False

    def __call__(self, action: int, first: str | None, second: str | None, schema: str | None, inside: str | None) -> int:
        if not self.trusted:
            problem = self._problem(action, first or "", second or "", schema)
            if problem is not None:
                raise Invalid(problem)
        return apsw.SQLITE_OK

    def _problem(self, action: int, first: str, second: str, schema: str | None) -> str | None:
        if action in _REFUSED_ACTIONS:
            return _REFUSED_ACTIONS[action]
        if action in _CREATE_ACTIONS:
            return _create_problem(action, first, second, schema)
        if action == apsw.SQLITE_ALTER_TABLE and _RESERVED_IN_TEXT.search(self.query):
            return _reserved(RESERVED_PREFIX)  # SQLite does not tell the new name of a table
        if action == apsw.SQLITE_PRAGMA:
            return _pragma_problem(first.lower(), second)
        if action == apsw.SQLITE_FUNCTION and second.lower() in _FUNCTIONS_REFUSED:
            return f"the function {second}() is not available in an actor"
        return None


def _create_problem(action: int, first: str, second: str, schema: str | None) -> str | None:
    if schema == "temp":
        return _TEMPORARY
    if first.lower().startswith(RESERVED_PREFIX):
        return _reserved(first)
    if action == apsw.SQLITE_CREATE_VTABLE and second.lower() not in _MODULES:
        return f"virtual tables of {second!r} are not available: there are {', '.join(sorted(_MODULES))}"
    return None


def _pragma_problem(name: str, value: str) -> str | None:
    if name in _PRAGMAS_TO_ASK or name in _PRAGMAS_TO_SET or (name in _PRAGMAS_TO_READ and not value):
        return None
    if name in _PRAGMAS_TO_READ:
        return f"PRAGMA {name} can be read and not set: Stead depends on it"
    allowed = ", ".join(sorted(_PRAGMAS_TO_ASK | _PRAGMAS_TO_READ | _PRAGMAS_TO_SET))
    return f"PRAGMA {name} is not available in an actor; there are: {allowed}"


def _reserved(name: str) -> str:
    return f"names that begin with {RESERVED_PREFIX} are Stead's: choose another name than {name!r}"
