"""What other units and operators see of a database, in the shape of Cloudflare's D1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stead.api import Env, Namespace
from stead.bindings.database.actor import DATABASE
from stead.bindings.database.migrations import Applied, Migration, pending
from stead.bindings.database.result import ExecResult, SqlResult
from stead.bindings.database.statements import split_statements
from stead.errors import Invalid, SqlError

STATEMENTS_MAX = 10_000  # of one batch or script


class PreparedStatement:
    """A query and its parameters. It never changes: `bind` gives another one."""

    def __init__(self, database: Database, query: str, params: tuple[Any, ...] = ()) -> None:
        self.database = database
        self.query = query
        self.params = params

    def bind(self, *params: Any) -> PreparedStatement:
        """The same query with these values for `?`, or with a dict of those of `:name`."""
        return PreparedStatement(self.database, self.query, params)

    async def all(self) -> SqlResult:
        """Run it: every row, and what is known of how it went."""
        (result,) = await self.database.batch([self])
        return result

    async def run(self) -> SqlResult:
        """As `all`, for who means the effect."""
        return await self.all()

    async def first(self, column: str | None = None) -> Any:
        """The first row, or its value in `column`; None if there is no row. Raises `Invalid` for a column that it has not."""
        rows = (await self.all()).results
        if not rows or column is None:
            return rows[0] if rows else None
        if column not in rows[0]:
            raise Invalid(f"the result has no column {column!r}; it has {', '.join(rows[0])}")
        return rows[0][column]

    async def raw(self, column_names: bool = False) -> list[list[Any]]:
        """The rows as lists of values; with `column_names` these come first, unless there is no row."""
        rows = (await self.all()).results
        names = [list(rows[0])] if column_names and rows else []
        return [*names, *(list(row.values()) for row in rows)]

    def __repr__(self) -> str:
        return f"<PreparedStatement {self.query[:80]!r}>"


class Database:
    """`await env.REPORTS.prepare("SELECT * FROM days WHERE day = ?").bind(day).first()`."""

    def __init__(self, namespace: Namespace[Any], env: Env, unit: str = DATABASE, migrations: Sequence[Migration] = ()) -> None:
        self._actor = namespace.get(DATABASE)
        self._unit = unit
        self._migrations = migrations

    def prepare(self, query: str) -> PreparedStatement:
        """One statement, to be bound and run. Nothing is sent yet."""
        return PreparedStatement(self, query)

    async def batch(self, statements: Sequence[PreparedStatement]) -> list[SqlResult]:
        """Run statements in order as one transaction: if one fails, none has happened."""
        if not 0 < len(statements) <= STATEMENTS_MAX:
            raise Invalid(f"a batch has 1 to {STATEMENTS_MAX:,} statements, got {len(statements):,}")
        if any(statement.database is not self for statement in statements):
            raise Invalid("a batch is one transaction of one database: its statements must be prepared by it")
        results: list[SqlResult] = await self._actor.run([(one.query, list(one.params)) for one in statements])
        return results

    async def exec(self, script: str) -> ExecResult:
        """Run the statements of a script as one transaction."""
        results = await self.execute(script)
        return ExecResult(len(results), round(sum(result.meta.duration for result in results), 3))

    async def execute(self, script: str) -> list[SqlResult]:
        """As `exec`, with the result of each statement."""
        statements = split_statements(script)
        return await self.batch([self.prepare(statement.text) for statement in statements]) if statements else []

    async def start(self) -> None:
        """Apply the migrations of the application. The node does this when it starts."""
        await self.migrate(self._migrations)

    async def migrate(self, migrations: Sequence[Migration]) -> list[str]:
        """Apply those that were not, each in a transaction of its own, and return their names.

        Raises `Invalid` for one that fails, with file, line and statement: it is undone, those before it stay. And for one that was
        applied and has been changed, or is missing.
        """
        files = [msgspec.convert(migration, Migration) for migration in migrations]
        waiting = pending(files, await self.migrations(), self._unit)
        return [migration.name for migration in waiting if await self._apply(migration)]

    async def _apply(self, migration: Migration) -> bool:
        try:
            applied: bool = await self._actor.apply(migration)
        except SqlError as exc:  # at the end of the transaction, by no statement's own fault
            raise Invalid(f"{migration.file}: {exc}\n  hint: nothing of it was applied; correct the file") from exc
        return applied

    async def migrations(self) -> list[Applied]:
        """The migrations that were applied, in order."""
        ledger: list[Applied] = await self._actor.ledger()
        return ledger
