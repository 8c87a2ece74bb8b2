"""The engine on PostgreSQL, which several nodes share: `PostgresEngine`."""

from stead.storage.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine"]
