"""Asking a PostgreSQL something from the driver."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

ANSWER_S = 10.0


def ask(dsn: str, query: str, *args: object) -> list[Any]:
    """The rows."""

    async def rows() -> list[Any]:
        connection = await asyncpg.connect(dsn, timeout=ANSWER_S)
        try:
            return list(await connection.fetch(query, *args, timeout=ANSWER_S))
        finally:
            await connection.close()

    return asyncio.run(rows())


def is_answering(dsn: str) -> bool:
    """False while it starts or recovers."""
    try:
        ask(dsn, "SELECT 1")
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    return True
