"""Which history of the database an epoch belongs to.

A server that fails over to a copy begins a new *timeline*, and the copy may lack the last claims and commits. So an epoch holds the
timeline in its upper bits, and a commit must be of the present one: what was claimed before a failover has to be claimed again, and
gets a larger epoch than any that was handed out before. A dump restored elsewhere has another *system identifier*; an engine that
finds it changed refuses to go on.

Both are read from the server inside the claiming and the committing statement, where a pooler may have put it on another server
than the one before. A server that tells neither (a relative of PostgreSQL, which does not lose commits in a failover) has 0.
"""

from __future__ import annotations

from typing import Any

import asyncpg

COUNTER_BITS = 40  # of an epoch: a million claims a second for twelve days on each timeline; 8 million timelines

_TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint"
_SYSTEM = "(SELECT system_identifier FROM pg_control_system())"
_NOT_THERE = (
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.SyntaxOrAccessError,
)


class Fence:
    """The expressions that a statement compares, and the system identifier that this engine began with."""

    def __init__(self) -> None:
        self.timeline = "0::bigint"
        self.system = "0::bigint"
        self.began_with = 0

    async def learn(self, connection: Any) -> None:
        """Find out what the server tells. Raises what the driver raises for a standby, which has no timeline to write on."""
        self.timeline = await _known(connection, _TIMELINE)
        self.system = await _known(connection, _SYSTEM)
        self.began_with = await connection.fetchval(f"SELECT {self.system}")


async def _known(connection: Any, expression: str) -> str:
    try:
        await connection.fetchval(f"SELECT {expression}")
    except _NOT_THERE:
        return "0::bigint"
    return expression
