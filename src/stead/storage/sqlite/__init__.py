"""The engine on one SQLite file: `SqliteEngine`."""

from stead.storage.sqlite.engine import SqliteEngine

__all__ = ["SqliteEngine"]
