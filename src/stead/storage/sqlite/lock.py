"""The exclusive right to a data directory, held by one process at a time.

The right is a `flock` on the file `lock`, which the kernel drops with the process however it ends, so no stale lock can remain. The
file keeps the owner's pid, only to name it in the error another process gets. It is never deleted: two processes could then
lock two different files of that name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stead.errors import EngineFailed


class DirectoryLock:
    """Holds `directory` from its making until `release`. Raises `EngineFailed` where another process holds it."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            owner = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise EngineFailed(
                f"the data directory {directory} is in use by process {owner}: stop that process, or give this one another "
                "directory with --data"
            ) from exc
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._file)


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
