"""The migrations of an application's databases: `db/<name>/NNNN_description.sql` beside its manifest."""

from __future__ import annotations

import re
from pathlib import Path

from stead.bindings import Migration
from stead.errors import ManifestError
from stead.manifest import SqlDatabase

_NAME = re.compile(r"\d{4}_[A-Za-z0-9_-]+\.sql")


def read_migrations(unit: SqlDatabase, directory: Path) -> list[Migration]:
    """Those of one database, in order. Raises `ManifestError` at the file that cannot be one."""
    folder = directory / "db" / unit.name
    found: list[Migration] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix != ".sql":
            continue
        file = str(path.relative_to(directory))
        if not _NAME.fullmatch(path.name):
            hint = 'four digits, an underscore and words, such as "0001_create_users.sql"'
            raise ManifestError(f"{path.name!r} is no name for a migration", file=file, hint=hint)
        if found and found[-1].name[:4] == path.name[:4]:
            hint = "give one of them the next number"
            raise ManifestError(f"{found[-1].name}.sql and {path.name} have the same number", file=file, hint=hint)
        try:
            found.append(Migration(path.stem, file, path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as exc:
            raise ManifestError(f"this migration cannot be read: {exc}", file=file, hint="save it as UTF-8 text") from exc
    return found
