"""The databases of a data directory."""

from __future__ import annotations

from pathlib import Path

import apsw

from stead.admin.doctor.finding import Finding, failed, note, ok, warning
from stead.errors import EngineFailed
from stead.storage.sqlite.failure import failure
from stead.storage.sqlite.file import BUILDING, FILE_NAME, DatabaseFile
from stead.storage.sqlite.schema import STEPS, check_pages, check_version
from stead.storage.sqlite.transfer import places

LOG_BYTES_MAX = 1024 * 1024 * 1024  # of a write-ahead log: only a reader that never ends lets it grow
SUBJECT = "engine"


def sqlite_findings(data: Path) -> list[Finding]:
    """Layout, and each database: whole, and of which release. Reads every page."""
    if not data.is_dir():
        return []
    try:
        found = places(data)
        findings = [ok("layout", "one database" if len(found) == 1 else f"{len(found)} databases, one for each worker")]
        for place in found:
            findings += _database(place)
    except EngineFailed as exc:
        return [failed(SUBJECT, str(exc), "see what is in the directory")]
    if (data / BUILDING).exists():
        left, remedy = (
            f"{data / BUILDING} is left of a `stead migrate-engine` that was interrupted",
            "run it again to its end, or remove it",
        )
        findings.append((warning if (data / FILE_NAME).exists() else failed)("layout", left, remedy))
    return findings


def _database(place: Path) -> list[Finding]:
    file = DatabaseFile(place)
    try:
        file.check_presence()
        if not file.path.exists():
            return [note(SUBJECT, f"SQLite; {file.path} is not there yet, the first start makes it")]
        return _opened(file)
    except EngineFailed as exc:
        return [failed(SUBJECT, str(exc), "restore a backup; nothing starts over a damaged file")]
    except apsw.Error as exc:
        return [failed(SUBJECT, str(failure(exc, file.path)), "restore a backup; nothing starts over a damaged file")]


def _opened(file: DatabaseFile) -> list[Finding]:
    connection = apsw.Connection(str(file.path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        version = check_version(connection, file.path)
        check_pages(connection, file.path)
        actors = int(connection.execute("SELECT count(*) FROM actors").get)
    finally:
        connection.close()
    size_bytes = file.path.stat().st_size
    findings = [ok(SUBJECT, f"SQLite; {file.path} is whole: {actors:,} actors, {size_bytes:,} bytes")]
    if version < len(STEPS):
        findings.append(note(SUBJECT, f"schema version {version} of {len(STEPS)}: the next start of a server migrates it"))
    log = file.path.with_name(f"{FILE_NAME}-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    if log_bytes > LOG_BYTES_MAX:
        remedy = "a process that reads and never ends keeps it from being copied back: find it with `fuser` on the database"
        findings.append(warning(SUBJECT, f"{log} has {log_bytes:,} bytes", remedy))
    return findings
