"""`.env` beside the manifest: values for development, `NAME=value` line by line.

A value is plain up to the end of the line or a `#` after white space, or stands in quotes, where it may have several lines; in
double quotes a backslash escapes as it does in JSON. Nothing is interpolated. Errors never show what a line says: it may be secret.
"""

from __future__ import annotations

import re
from pathlib import Path

from stead.errors import ManifestError
from stead.manifest import ManifestErrors

FILE_BYTES_MAX = 256 * 1024
_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")  # to the end of a line
_VALUES = (
    re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    re.compile(r"'([^']*)'"),
    re.compile(r"""(?!["'])([^\n#]*(?:(?<=\S)#[^\n#]*)*)"""),
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def read_dotenv(path: Path) -> dict[str, str]:
    """The values in the file; none if there is no file. Raises `ManifestErrors` with file and line for what is malformed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise _error(path, 1, f"cannot be read: {exc.strerror}", "check that it is a file and that you may read it") from exc
    if len(data) > FILE_BYTES_MAX:
        raise _error(path, 1, f"is over {FILE_BYTES_MAX:,} bytes", "keep settings in it, and data elsewhere")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise _error(path, data.count(b"\n", 0, exc.start) + 1, "is not UTF-8 text", "save it as UTF-8") from None
    return _parse(text, path)


def _parse(text: str, path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        nothing = _NOTHING.match(text, at)
        if nothing is not None:
            at = nothing.end()
            continue
        line = text.count("\n", 0, at) + 1
        at += len(text[at:]) - len(text[at:].lstrip(" \t"))
        name = _NAME.match(text, at)
        if name is None:
            raise _error(path, line, "is no NAME=value", 'write NAME=value, NAME="value" or # a comment')
        value, at = _value(text, name.end(), path, line)
        if name[1] in values:
            raise _error(path, line, f"sets {name[1]} a second time", "keep one of the lines")
        values[name[1]] = value
    return values


def _value(text: str, start: int, path: Path, line: int) -> tuple[str, int]:
    double, single, plain = (pattern.match(text, start) for pattern in _VALUES)
    match = double or single or plain
    end = None if match is None else _NOTHING.match(text, match.end())
    if match is None or end is None:
        quote = text[start : start + 1]
        problem = "has a quote that does not end" if match is None else f"goes on behind its {quote}…{quote}"
        raise _error(path, line, problem, 'quote the whole value, and write a quote inside double quotes as \\"')
    if double is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), match[1]), end.end()
    return (match[1] if single is not None else match[1].strip()), end.end()


def _error(path: Path, line: int, problem: str, hint: str) -> ManifestErrors:
    return ManifestErrors([ManifestError(f"this line {problem}", file=str(path), line=line, hint=hint)])
