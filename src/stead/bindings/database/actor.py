"""The actor of a database: its own SQL, for others. A call is a turn, so the statements of one call are one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stead.api import Actor, reads
from stead.bindings.database.migrations import Applied, Migration
from stead.bindings.database.result import SqlMeta, SqlResult
from stead.bindings.database.statements import split_statements
from stead.errors import Invalid, SqlError

DATABASE = "database"  # the actor's name
LEDGER = "stead_migrations"
_COUNTERS = "SELECT total_changes() AS written, changes() AS changed, last_insert_rowid() AS last"

Statement = tuple[str, list[Any]]
"""A query and its parameters: those of `?` in order, or one dict with those of `:name`."""


class DatabaseActor(Actor):
    turn_limit_s = 300.0  # a migration may take its time

    async def run(self, statements: Sequence[Statement]) -> list[SqlResult]:
        """Run statements in order: all, or none if one fails."""
        return [await self._run(query, params) for query, params in statements]

    async def apply(self, migration: Migration) -> bool:
        """Apply a migration and note it, unless that was done. Raises `Invalid` with file, line and statement."""
        if any(line.name == migration.name for line in await self._ledger()):
            return False
        for statement in split_statements(migration.text):
            try:
                await self.sql.fetch_all(statement.text)
            except Invalid as exc:
                said = str(exc) if isinstance(exc, SqlError) else str(SqlError(str(exc), statement.text))
                hint = "correct the file; nothing of it was applied, and it is tried again at the next start"
                raise Invalid(f"{migration.file}:{statement.line}: {said}\n  hint: {hint}") from exc
        await self.sql.execute(
            f"CREATE TABLE IF NOT EXISTS {LEDGER} (name TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at TEXT NOT NULL)"
        )
        await self.sql.execute(
            f"INSERT INTO {LEDGER} VALUES (?, ?, ?)", migration.name, migration.checksum, self.env.now().isoformat()
        )
        return True

    @reads
    async def ledger(self) -> list[Applied]:
        """The migrations that were applied, in order."""
        return await self._ledger()

    async def _ledger(self) -> list[Applied]:
        if await self.sql.fetch_value("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", LEDGER) == 0:
            return []
        rows = await self.sql.fetch_all(f"SELECT name, checksum, applied_at FROM {LEDGER} ORDER BY name")
        return [
            Applied(str(row["name"]), str(row["checksum"]), datetime.fromisoformat(str(row["applied_at"])).astimezone(UTC))
            for row in rows
        ]

    async def _run(self, query: str, params: Sequence[Any]) -> SqlResult:
        loop = asyncio.get_running_loop()
        before = await self.sql.fetch_value("SELECT total_changes()")
        started_s = loop.time()
        rows = await self.sql.fetch_all(query, *params)
        duration_ms = (loop.time() - started_s) * 1000
        after: Any = await self.sql.fetch_one(_COUNTERS)
        written = after["written"] - before
        size_bytes = await self.sql.size_bytes()
        return SqlResult(
            rows, SqlMeta(round(duration_ms, 3), None, written, after["last"], after["changed"] if written else 0, size_bytes)
        )
