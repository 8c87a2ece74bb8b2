"""SQLite's view of a file, kept in an actor's pages.

SQLite reaches files through a table of functions, a VFS. Ours knows one kind of file: a sequence of pages that somebody lent to it
under a name that is good for one open. It has no journals, no temporary files and no shared memory, because the connections that
use it keep all of that in memory; asked for one it refuses, so that nothing on a disk is ever touched.

What SQLite writes, it writes during COMMIT, and `PageFile` holds that back until `flush`: the pages see a transaction only
after SQLite has said that it is one, so a commit that fails in the middle leaves them as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import apsw

PAGE_BYTES: Final = 4096
PENDING_PAGE: Final = 0x4000_0000 // PAGE_BYTES  # the one at 1 GiB that SQLite never reads or writes: it locks its bytes
_VFS_NAME: Final = "stead-pages"
_JULIAN_MS_OF_1970: Final = 210_866_760_000_000
_UNUSED_METHODS: Final = {
    "xDlOpen", "xDlSym", "xDlClose", "xDlError", "xGetSystemCall", "xSetSystemCall", "xNextSystemCall",
}  # fmt: skip


class Pages(Protocol):
    """What a database asks of its actor. Between two commits of the database nobody else may change the pages."""

    def count(self) -> int:
        """How many pages the file has, as this turn sees it; one more than the highest number written."""
        ...

    def read(self, number: int) -> bytes:
        """Page `number`, counted from 0, PAGE_BYTES long, as this turn sees it. Only pages below `count` are asked for."""
        ...

    def write(self, number: int, data: bytes) -> None:
        """Replace page `number`, or append it. PENDING_PAGE is never written, so the one behind it comes at `count() + 1`."""
        ...

    def truncate(self, count: int) -> None:
        """Drop the pages from `count` on."""
        ...


class PageFile:
    """The open file of one connection: pages as they were lent, and over them what COMMIT has written."""

    __slots__ = ("_count", "_kept", "_lent", "_pages", "_written", "failure")

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._written: dict[int, bytes] = {}
        self._lent = self._count = self._kept = pages.count()  # what the pages have, what SQLite sees, what it never cut off
        self.failure: BaseException | None = None  # the last error that `pages` raised, to tell it from SQLite's own

    def flush(self) -> None:
        """Hand what was written to the pages, in the order of their numbers."""
        if self._kept < self._lent:
            self._pages.truncate(self._kept)
        for number in sorted(self._written):
            self._pages.write(number, self._written[number])
        self._written.clear()
        self._lent = self._kept = self._count

    def xRead(self, amount: int, offset: int) -> bytes:
        number, start = divmod(offset, PAGE_BYTES)
        if number >= self._count:
            return b""
        page = self._written.get(number)
        if page is None:
            now_ms = VFS.now_ms
            try:
                page = self._pages.read(number)
            except BaseException as error:
                self.failure = error
                raise
            VFS.now_ms = now_ms  # the pages may have waited, and others' statements run meanwhile
        return page if amount == PAGE_BYTES else page[start : start + amount]

    def xWrite(self, data: bytes, offset: int) -> None:
        number, start = divmod(offset, PAGE_BYTES)
        assert start == 0 and len(data) == PAGE_BYTES, "SQLite writes whole pages"
        self._written[number] = bytes(data)
        self._count = max(self._count, number + 1)

    def xTruncate(self, size: int) -> None:
        self._count = size // PAGE_BYTES
        self._kept = min(self._kept, self._count)
        for number in [number for number in self._written if number >= self._count]:
            del self._written[number]

    def xFileSize(self) -> int:
        return self._count * PAGE_BYTES

    def xSync(self, flags: int) -> None:
        """Flushing is the actor's commit."""

    def xLock(self, level: int) -> None:
        """The actor's turn is the lock."""

    def xUnlock(self, level: int) -> None:
        """The actor's turn is the lock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return PAGE_BYTES

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE | apsw.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN

    def xClose(self) -> None:
        """There is nothing to give back."""


class PageVfs(apsw.VFS):
    """The VFS of this process. `now_ms` tells the running statement the time; None is the system's."""

    def __init__(self) -> None:
        super().__init__(_VFS_NAME, "", exclude=_UNUSED_METHODS)
        self.now_ms: Callable[[], int] | None = None
        self._names = count()
        self._lent: dict[str, PageFile] = {}

    def connect(self, file: PageFile, statements_cached: int) -> apsw.Connection:
        """Open a connection whose database is `file`."""
        name = f"pages-{next(self._names)}"
        self._lent[name] = file
        try:
            return apsw.Connection(name, vfs=_VFS_NAME, statementcachesize=statements_cached)
        finally:
            self._lent.pop(name, None)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> PageFile:  # type: ignore[override]
        key = name.filename() if isinstance(name, apsw.URIFilename) else name
        file = self._lent.pop(key, None) if key else None
        if file is None:
            raise apsw.CantOpenError(f"an actor's database has no file {key!r}")
        flags[1] = flags[0]
        return file

    def xAccess(self, pathname: str, flags: int) -> bool:
        return False

    def xDelete(self, filename: str, syncdir: bool) -> None:
        raise apsw.IOError(f"an actor's database has no file {filename!r}")

    def xFullPathname(self, name: str) -> str:
        return name

    def xCurrentTimeInt64(self) -> int:
        return super().xCurrentTimeInt64() if self.now_ms is None else self.now_ms() + _JULIAN_MS_OF_1970


VFS: Final = PageVfs()
