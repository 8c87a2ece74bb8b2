"""One open SQLite connection: runs statements within their bounds and turns SQLite's errors into ours.

A statement is looked at before it runs (SQLite has compiled it then, and the guard has allowed it) and while it runs, every
PROGRESS_STEPS steps of the virtual machine. Whatever it is refused for, it leaves nothing behind; where a writing one is refused
for the rows that it gave, nothing of the transaction is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import apsw

from stead.errors import SqlError, SteadError, TransactionLost
from stead.storage.sql import limits
from stead.storage.sql.failures import translated
from stead.storage.sql.guard import Guard
from stead.storage.sql.values import Bindings, SqlValue, checked_params
from stead.storage.sql.vfs import VFS, PageFile

T = TypeVar("T")
Row: TypeAlias = dict[str, SqlValue]

# Our commands are prepared with another flag than the user's statements, so that a user's COMMIT never finds ours, already compiled
# and allowed, in the cache.
_OURS: Final = apsw.SQLITE_PREPARE_PERSISTENT
_MEMORY_COUNTERS: Final = (apsw.SQLITE_DBSTATUS_CACHE_USED, apsw.SQLITE_DBSTATUS_SCHEMA_USED, apsw.SQLITE_DBSTATUS_STMT_USED)
_CONNECTION_BYTES: Final = 96 * 1024  # what a connection takes besides (measured): lookaside memory, page table, apsw's objects
COMMANDS_A_LOOK: Final = 64  # at memory: some ten to thirty turns, in which the bounded caches of one connection grow little
_NOTHING_MORE: Final = re.compile(r"(?>[\s;]+|--[^\n]*|/\*.*?(?:\*/|\Z))*+", re.DOTALL)


class Session:
    """An open connection to `file`; one statement at a time. The caller sees to it that a transaction is open."""

    __slots__ = (
        "_bytes_before",
        "_commands",
        "_connection",
        "_guard",
        "_names",
        "_now_ms",
        "_over",
        "_steps",
        "_weighed_after",
        "_weighed_bytes",
        "_writes",
        "file",
    )

    def __init__(self, file: PageFile, now_ms: Callable[[], int] | None) -> None:
        self.file = file
        self._now_ms = now_ms
        self._guard = Guard()
        self._steps = 0  # of the running statement ...
        self._bytes_before = 0  # ... what SQLite had allocated when it started ...
        self._over = ""  # ... the bound it went over ...
        self._names: tuple[str, ...] = ()  # ... the columns of its result ...
        self._writes = False  # ... and whether it is a fetch that writes
        self._weighed_bytes = 0
        self._weighed_after = 0  # commands until memory is looked at again
        self._connection = VFS.connect(file, limits.STATEMENTS_CACHED)
        try:
            limits.apply_limits(self._connection)
        except BaseException as error:
            self._connection.close(True)
            if error is file.failure or not isinstance(error, apsw.Error):
                raise
            raise translated(error, "") from error
        self._connection.authorizer = self._guard
        self._connection.set_progress_handler(self._is_over, limits.PROGRESS_STEPS)
        self._commands = self._connection.cursor()

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def is_writing(self) -> bool:
        """Whether the open transaction has started to write."""
        return self._connection.txn_state("main") == apsw.SQLITE_TXN_WRITE

    @property
    def memory_bytes(self) -> int:
        """About what the connection takes; looked at once in COMMANDS_A_LOOK commands, because SQLite has to count."""
        if self._weighed_after <= 0:
            self._weighed_after = COMMANDS_A_LOOK
            self._weighed_bytes = _CONNECTION_BYTES + sum(self._connection.status(counter)[0] for counter in _MEMORY_COUNTERS)
        return self._weighed_bytes

    def close(self) -> None:
        self._connection.close(True)

    def command(self, text: str) -> None:
        """Run a statement of Stead's own, which neither reads the clock nor gives rows. Raises what apsw raises."""
        self._weighed_after -= 1
        self._guard.trusted = True
        try:
            self._commands.execute(text, prepare_flags=_OURS)
        finally:
            self._guard.trusted = False

    def page_count(self) -> int:
        """Pages of the database, those that the open transaction has added included."""
        count = self._connection.pragma("page_count")
        assert isinstance(count, int)
        return count

    def execute(self, query: str, params: Sequence[object]) -> int:
        """Run one statement; the number of rows it wrote itself."""

        def run(cursor: apsw.Cursor, bindings: Bindings) -> int:
            before = self._connection.total_changes()
            if ";" in query:
                cursor.exec_trace = lambda cursor, text, bindings: _is_whole(query, text)
            for _ in cursor.execute(query, bindings):
                pass
            return self._connection.changes() if self._connection.total_changes() != before else 0

        return self._run(query, params, run)

    def fetch(self, query: str, params: Sequence[object], rows_max: int | None = None) -> list[Row]:
        """Run one statement; its rows, or the first `rows_max` of them."""

        def run(cursor: apsw.Cursor, bindings: Bindings) -> list[Row]:
            self._writes = False
            cursor.exec_trace = self._look
            try:
                return self._rows(cursor.execute(query, bindings), rows_max)
            except apsw.Error:  # SQLite has undone the statement
                raise
            except BaseException:
                cursor.close(True)
                if self._writes:  # all is written before the first row comes
                    self.command("ROLLBACK")
                raise

        return self._run(query, params, run)

    def script(self, text: str) -> None:
        """Run several statements. Those before a failing one stay."""
        self._run(text, (), lambda cursor, bindings: [None for _ in cursor.execute(text, bindings)])

    def _run(self, query: str, params: Sequence[object], take: Callable[[apsw.Cursor, Bindings], T]) -> T:
        bindings = checked_params(params, query) if params else ()
        self._start(query)
        cursor = self._connection.cursor()
        try:
            return take(cursor, bindings)
        except BaseException as error:
            if error is self.file.failure:
                cursor.close(True)
                if self.is_writing:  # it stopped in the middle of a statement, which SQLite cannot undo alone
                    self.command("ROLLBACK")
                raise
            if not isinstance(error, (apsw.Error, SqlError, KeyError, UnicodeError)):
                raise
            explained = self._explained(error, query)
            if explained is error:
                raise
            raise explained from error
        finally:
            cursor.close(True)

    def _start(self, query: str) -> None:
        if self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0] > limits.TURN_BYTES_MAX:
            raise SqlError(f"one turn may change {limits.TURN_BYTES_MAX} bytes of pages: split the work into several turns")
        VFS.now_ms = self._now_ms
        self._guard.query = query
        self._steps, self._bytes_before, self._over = 0, apsw.memory_used(), ""

    def _is_over(self) -> bool:
        self._steps += limits.PROGRESS_STEPS
        if self._guard.trusted:
            return False
        if self._steps > limits.STATEMENT_STEPS_MAX:
            self._over = f"the statement took more than {limits.STATEMENT_STEPS_MAX} steps: add an index or do it in parts"
        elif apsw.memory_used() - self._bytes_before > limits.STATEMENT_BYTES_MAX:
            self._over = f"the statement took more than {limits.STATEMENT_BYTES_MAX} bytes of memory: do it in parts (LIMIT)"
        return bool(self._over)

    def _look(self, cursor: apsw.Cursor, text: str, bindings: object) -> bool:
        """What SQLite knows of a fetched statement before it runs."""
        query = self._guard.query
        _is_whole(query, text)
        self._names = names = tuple([column[0] for column in cursor.get_description()])
        if len(names) > 1 and len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SqlError(f"two columns are named {twice!r}: name them apart with AS", query)
        self._writes = not cursor.is_readonly
        return True

    def _rows(self, cursor: apsw.Cursor, rows_max: int | None) -> list[Row]:
        """The first rows; a statement that writes runs to its end all the same."""
        rows: list[Row] = []
        names, size_bytes = self._names, 0
        for row in cursor:
            if rows_max is not None and len(rows) >= rows_max:
                if self._writes:
                    continue
                break
            size_bytes += limits.ROW_BYTES + limits.CELL_BYTES * len(row)
            for cell in row:
                if isinstance(cell, (str, bytes)):
                    size_bytes += len(cell)
            if size_bytes > limits.RESULT_BYTES_MAX:
                raise SqlError(
                    f"the result is over {limits.RESULT_BYTES_MAX} bytes: use LIMIT, and WHERE to go on from the last row",
                    self._guard.query,
                )
            rows.append(dict(zip(names, row, strict=True)))
        return rows

    def _explained(self, error: Exception, query: str) -> Exception:
        if isinstance(error, SqlError):
            explained: SteadError = error
        elif isinstance(error, apsw.InterruptError):
            explained = SqlError(self._over, query)
        else:
            explained = translated(error, query)
        if self.in_transaction or not isinstance(explained, SqlError):
            return explained
        return TransactionLost(f"SQLite rolled the whole turn's SQL back: {explained.args[0]}", query, explained.constraint)


def _is_whole(query: str, first: str) -> bool:
    """True if `first` is the only statement of `query`; raises before anything ran if more follow."""
    if len(first) < len(query) and not _NOTHING_MORE.fullmatch(query, query.index(first) + len(first)):
        raise SqlError("one statement at a time: use script() for several", query)
    return True
