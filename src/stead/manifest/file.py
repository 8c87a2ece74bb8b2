"""The manifest's file: which one it is, and its text."""

from __future__ import annotations

from pathlib import Path

from stead.errors import ManifestError
from stead.manifest.application import ManifestErrors, parse_manifest
from stead.manifest.grammar import FILE_BYTES_MAX
from stead.manifest.schema import Application

MANIFEST_NAMES = ("stead.manifest", "raindrop.manifest")  # the first that exists counts


def find_manifest(directory: Path) -> Path:
    """The manifest in `directory`. Raises `ManifestErrors` where there is none."""
    try:
        for name in MANIFEST_NAMES:
            if (directory / name).is_file():
                return directory / name
    except OSError as exc:
        raise _unreadable(directory, exc) from exc
    hint = "name the directory that has one, or make an application with `stead new NAME`"
    raise ManifestErrors([ManifestError(f"no {' or '.join(MANIFEST_NAMES)} in {directory}", file=str(directory), hint=hint)])


def load_manifest(path: Path) -> Application:
    """The application that the file declares. Raises `ManifestErrors`, also for a file that cannot be read or is not UTF-8."""
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from exc
    if len(data) > FILE_BYTES_MAX:
        raise _unreadable(path, ValueError(f"it is over {FILE_BYTES_MAX:,} bytes"))
    try:
        return parse_manifest(data.decode(), str(path))
    except UnicodeDecodeError as exc:
        line_start = data.rfind(b"\n", 0, exc.start) + 1
        line, column = data.count(b"\n", 0, exc.start) + 1, len(data[line_start : exc.start].decode()) + 1
        error = ManifestError("this is not UTF-8 text", file=str(path), line=line, column=column, hint="save the file as UTF-8")
        raise ManifestErrors([error]) from exc


def _unreadable(path: Path, cause: Exception) -> ManifestErrors:
    hint = "check that it is a file and that you may read it"
    return ManifestErrors([ManifestError(f"cannot be read: {cause}", file=str(path), hint=hint)])
