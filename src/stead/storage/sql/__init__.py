"""A real SQLite database inside an actor, whose pages are entries of the actor; `DESIGN.md` says how."""

from stead.storage.sql.database import SqlDatabase
from stead.storage.sql.packing import pack, unpack
from stead.storage.sql.session import Row
from stead.storage.sql.values import SqlValue
from stead.storage.sql.vfs import PAGE_BYTES, PENDING_PAGE, Pages

__all__ = ["PAGE_BYTES", "PENDING_PAGE", "Pages", "Row", "SqlDatabase", "SqlValue", "pack", "unpack"]
