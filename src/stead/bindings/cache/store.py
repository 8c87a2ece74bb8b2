"""Where a node keeps cached responses: a SQLite file, or memory. It may lose anything at any time, so nothing is flushed; a file
that cannot be read is begun anew."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import apsw
import msgspec

from stead.logic.caching import Headers, variant

BYTES_MAX = 256 * 1024 * 1024  # of all responses; past it the longest unused leave
ROW_BYTES = 512  # what a response counts besides its body
VARIANTS_MAX = 32  # of one address: who varies by User-Agent would fill the cache with one page
_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    url TEXT NOT NULL, variant TEXT NOT NULL, vary TEXT NOT NULL,
    status INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL,
    kept_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (url, variant, vary));
CREATE INDEX IF NOT EXISTS responses_by_use ON responses (used);
"""

log = logging.getLogger("stead")


class Cached(msgspec.Struct, frozen=True):
    """A response that is kept."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    kept_ms: int
    until_ms: int


class CacheStore:
    """Responses by URL and by what they vary by."""

    def __init__(self, path: Path | None, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._database = _open(path)
        self._size_bytes = self._measured()
        self._uses: int = self._value("SELECT coalesce(max(used), 0) FROM responses")

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def find(self, url: str, request: Headers, now_ms: int) -> Cached | None:
        """The fresh response to this request, the newest where there are several."""
        query = (
            "SELECT rowid, variant, vary, status, headers, body, kept_ms, until_ms FROM responses WHERE url = ? AND until_ms > ?"
        )
        rows = self._database.execute(f"{query} ORDER BY kept_ms DESC", (url, now_ms)).fetchall()
        for number, kept_variant, vary, status, headers, body, kept_ms, until_ms in rows:
            if json.dumps(variant(json.loads(str(vary)), request)) == kept_variant:
                self._uses += 1
                self._database.execute("UPDATE responses SET used = ? WHERE rowid = ?", (self._uses, number))
                row = {"status": status, "headers": json.loads(str(headers)), "body": body}
                return msgspec.convert({**row, "kept_ms": kept_ms, "until_ms": until_ms}, Cached)
        return None

    def keep(self, url: str, vary: tuple[str, ...], request: Headers, cached: Cached) -> None:
        """Keep a response in place of the one that answered the same requests; a full disk keeps nothing."""
        place = (url, json.dumps(variant(vary, request)), json.dumps(vary))
        self._uses += 1
        try:
            with self._database:
                self._remove("url = ? AND variant = ? AND vary = ?", place)
                self._remove(
                    "rowid IN (SELECT rowid FROM responses WHERE url = ? ORDER BY used DESC LIMIT -1 OFFSET ?)",
                    (url, VARIANTS_MAX - 1),
                )
                row = (cached.status, json.dumps(cached.headers), cached.body, cached.kept_ms, cached.until_ms, self._uses)
                self._database.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*place, *row))
                self._size_bytes += len(cached.body) + ROW_BYTES
                while self._size_bytes > self._bytes_max:
                    self._remove("rowid = (SELECT rowid FROM responses ORDER BY used LIMIT 1)", ())
        except (apsw.FullError, apsw.IOError) as exc:
            self._size_bytes = self._measured()
            log.warning("a response could not be cached: %s", exc)

    def remove(self, url: str) -> bool:
        """Forget every response of an address, and say whether there was one."""
        return self._remove("url = ?", (url,))

    def close(self) -> None:
        self._database.close()

    def _remove(self, which: str, values: tuple[object, ...]) -> bool:
        sizes = self._database.execute(f"DELETE FROM responses WHERE {which} RETURNING length(body)", values).fetchall()
        self._size_bytes -= sum(int(str(size)) + ROW_BYTES for (size,) in sizes)
        return bool(sizes)

    def _measured(self) -> int:
        return self._value("SELECT coalesce(sum(length(body)), 0) + count(*) * ? FROM responses", ROW_BYTES)

    def _value(self, query: str, *values: object) -> int:
        return int(str(self._database.execute(query, values).get))


def _open(path: Path | None) -> apsw.Connection:
    if path is None:
        return _connect(":memory:")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(str(path))
    except (apsw.CorruptError, apsw.NotADBError):
        path.unlink()
        return _connect(str(path))


def _connect(name: str) -> apsw.Connection:
    connection = apsw.Connection(name)
    connection.execute("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")
    connection.execute(_SCHEMA)
    return connection
