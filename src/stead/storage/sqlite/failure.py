"""What SQLite reports, as an `EngineFailed` that says what to do."""

from __future__ import annotations

from pathlib import Path

import apsw

from stead.errors import EngineFailed


def failure(exc: apsw.Error, path: Path) -> EngineFailed:
    """The error to raise (`from exc`) for what went wrong with the database at `path`."""
    if isinstance(exc, apsw.CorruptError | apsw.NotADBError):
        return damaged(path, str(exc))
    if isinstance(exc, apsw.FullError):
        return EngineFailed(
            f"{path} cannot grow ({exc}): nothing of this commit was stored. Free space on its disk, or raise size_bytes_max; "
            "the engine goes on by itself as soon as there is room"
        )
    if isinstance(exc, apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.PermissionsError):
        return EngineFailed(f"{path} cannot be read or written ({exc}): check the disk and the permissions of {path.parent}")
    return EngineFailed(f"{path}: SQLite reports {type(exc).__name__}: {exc}")


def damaged(path: Path, found: str) -> EngineFailed:
    """The error for a database that is not whole. It names the ways out, none of which starts over it."""
    return EngineFailed(
        f"{path} is damaged ({' '.join(found.split())}) and was left as it is. Stop the server and restore a backup, "
        f"or salvage what is readable: sqlite3 '{path}' .recover | sqlite3 '{path}.recovered'"
    )
