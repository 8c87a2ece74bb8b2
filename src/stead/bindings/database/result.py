"""What a statement gives: rows, and what is known of how it went."""

from __future__ import annotations

from typing import Any

import msgspec


class SqlMeta(msgspec.Struct, frozen=True):
    """How a statement went.

    `duration` is in milliseconds. `rows_read` is None: SQLite does not count the rows that it looked at. `rows_written` counts
    those inserted, changed or deleted, by triggers and cascades too, and no index entries; `changes` those of the statement itself.
    `last_row_id` is of the last insert of this call or an earlier one, 0 if there was none. `size_after` is in bytes.
    """

    duration: float
    rows_read: int | None
    rows_written: int
    last_row_id: int
    changes: int
    size_after: int


class SqlResult(msgspec.Struct, frozen=True):
    """The rows of a statement, as dicts in the order of its columns; none for one that gives none."""

    results: list[dict[str, Any]]
    meta: SqlMeta
    success: bool = True


class ExecResult(msgspec.Struct, frozen=True):
    """How many statements a script had, and how many milliseconds they took."""

    count: int
    duration: float
