"""The database of one actor: a SQLite database whose transaction is the turn.

SQLite keeps what a turn changes in its page cache. COMMIT writes the changed pages into a `PageFile`, which hands them to
the actor's entries once SQLite has said that the commit is whole; ROLLBACK forgets them. So `Pages` sees nothing but whole
transactions, and they become durable with the actor's own commit: SQLite itself flushes nothing.

A statement that fails is undone alone. Where SQLite undoes more than that (`ON CONFLICT ROLLBACK`, a full database, a writing
statement over its bounds), and where the rows that a writing statement gives are refused, the transaction is *lost*: every call but
`rollback` and `close` raises `TransactionLost` from then on, so that a turn cannot go on as if its earlier statements were still
there, whatever the application catches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apsw

from stead.errors import SqlError, TransactionLost
from stead.storage.sql.failures import translated
from stead.storage.sql.session import Row, Session
from stead.storage.sql.values import SqlValue
from stead.storage.sql.vfs import PAGE_BYTES, PENDING_PAGE, PageFile, Pages


class SqlDatabase:
    """A SQLite database in `pages`. Synchronous; opens at the first statement and again after `close`; not for two threads at once.

    `now_ms` is the wall time in milliseconds that `CURRENT_TIMESTAMP` and `datetime('now')` show; None is the system's.
    Every statement begins the transaction if nobody has. Only while it is closed may the pages change behind its back.
    """

    __slots__ = ("_begun", "_depth", "_handed_over", "_now_ms", "_open", "_pages", "_read_only")

    def __init__(self, pages: Pages, now_ms: Callable[[], int] | None = None) -> None:
        self._pages = pages
        self._now_ms = now_ms
        self._open: Session | None = None
        self._begun = False
        self._read_only = False
        self._handed_over = True  # False: SQLite has committed what the pages did not take
        self._depth = 0  # of savepoints

    @property
    def in_transaction(self) -> bool:
        """Whether there is something to commit or to roll back: `begin` was called, and nothing that ends it since."""
        return self._begun

    @property
    def memory_bytes(self) -> int:
        """About what the open database takes in memory; 0 if it is closed."""
        return self._open.memory_bytes if self._open is not None else 0

    def begin(self, *, read_only: bool | None = None) -> None:
        """Start the turn's transaction, if it has not started. Nothing is read yet.

        `read_only` True has writing statements refused, False allows them again; None leaves it as it is (allowed, at first).
        """
        if not self._begun:
            session = self._open
            if session is None:
                session = self._open = Session(PageFile(self._pages), self._now_ms)
            session.command("BEGIN")
            self._begun = True
        else:
            session = self._session()
        if read_only is not None and read_only is not self._read_only:
            session.command(f"PRAGMA query_only={int(read_only)}")
            self._read_only = read_only

    def commit(self) -> None:
        """End the transaction and hand its changed pages to `pages`; nothing if none has started.

        Raises SqlError if a deferred constraint is violated; the transaction stays open, to be rolled back or mended. If `pages`
        raises, its error passes as it is and the transaction is lost, with some of the pages perhaps written.
        """
        if not self._begun:
            return
        session = self._session()
        assert self._depth == 0, "a savepoint is open"
        wrote = session.is_writing
        try:
            session.command("COMMIT")
        except apsw.ConstraintError as error:
            message = f"constraints were violated at the end of the turn ({error}), so it cannot be committed"
            raise SqlError(message, constraint="foreignkey") from error
        except apsw.Error as error:
            if error is session.file.failure:
                raise
            raise translated(error, "COMMIT") from error
        if wrote:  # an empty database that was only read keeps the page back that SQLite has prepared at opening
            self._handed_over = False
            session.file.flush()
            self._handed_over = True
        self._begun = False

    def rollback(self) -> None:
        """Forget everything since `begin`, savepoints too; nothing if none has started."""
        if not self._begun:
            return
        if self._is_lost():
            self.close()
        else:
            self._session().command("ROLLBACK")
            self._begun, self._depth = False, 0

    def savepoint(self) -> None:
        """Start a nested transaction inside the turn's."""
        self._session().command("SAVEPOINT nested")
        self._depth += 1

    def release(self) -> None:
        """End the innermost nested transaction and keep what it did."""
        assert self._depth > 0, "no savepoint is open"
        self._session().command("RELEASE nested")
        self._depth -= 1

    def rollback_to(self) -> None:
        """End the innermost nested transaction and undo what it did."""
        assert self._depth > 0, "no savepoint is open"
        session = self._session()
        session.command("ROLLBACK TO nested")
        session.command("RELEASE nested")
        self._depth -= 1

    def execute(self, query: str, params: Sequence[object] = ()) -> int:
        """Run one statement and say how many rows it inserted, changed or deleted, those of triggers and cascades not counted.

        `params` are the values of `?` in order, or a single dict with those of `:name`.
        """
        return self._session().execute(query, params)

    def fetch_all(self, query: str, params: Sequence[object] = ()) -> list[Row]:
        """The rows of one statement as dicts. Two columns of one name are refused: name them apart with AS."""
        return self._session().fetch(query, params)

    def fetch_one(self, query: str, params: Sequence[object] = ()) -> Row | None:
        """The first row, None if there is none."""
        rows = self._session().fetch(query, params, 1)
        return rows[0] if rows else None

    def fetch_value(self, query: str, params: Sequence[object] = ()) -> SqlValue:
        """The first column of the first row, None if there is no row."""
        rows = self._session().fetch(query, params, 1)
        return next(iter(rows[0].values())) if rows else None

    def script(self, text: str) -> None:
        """Run several statements without parameters: all of them, or none if one fails."""
        self.savepoint()
        try:
            self._session().script(text)
        except BaseException:
            if not self._is_lost():
                self.rollback_to()
            raise
        self.release()

    def size_bytes(self) -> int:
        """Bytes of the database file, what this turn has added included."""
        session = self._session() if self._begun else None
        return PAGE_BYTES * (session.page_count() if session is not None and session.is_writing else self._pages.count())

    def serialize(self) -> bytes:
        """The file as of the last commit: written to disk it is a normal SQLite database."""
        gap = bytes(PAGE_BYTES)
        return b"".join(gap if number == PENDING_PAGE else self._pages.read(number) for number in range(self._pages.count()))

    def close(self) -> None:
        """Forget the open transaction and give the memory back."""
        if self._open is not None:
            self._open.close()
        self._open, self._begun, self._read_only, self._handed_over, self._depth = None, False, False, True, 0

    def _session(self) -> Session:
        """The open connection, in a transaction."""
        if not self._begun:
            self.begin()
        if self._is_lost():
            raise TransactionLost("SQLite has rolled back what this turn had written with SQL: the turn has to fail")
        assert self._open is not None
        return self._open

    def _is_lost(self) -> bool:
        return self._begun and not (self._handed_over and self._open is not None and self._open.in_transaction)
