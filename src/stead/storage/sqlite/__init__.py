"""The engine on SQLite files: `SqliteEngine` on one, `WorkerEngine` on one of several that divide a data directory."""

from stead.storage.sqlite.division import divide
from stead.storage.sqlite.engine import SqliteEngine
from stead.storage.sqlite.layout import share_directory, shares_of
from stead.storage.sqlite.lock import DirectoryLock, is_alive
from stead.storage.sqlite.shares import Shares, WorkerEngine, open_data

__all__ = [
    "DirectoryLock",
    "Shares",
    "SqliteEngine",
    "WorkerEngine",
    "divide",
    "is_alive",
    "open_data",
    "share_directory",
    "shares_of",
]
