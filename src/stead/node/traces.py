"""Errors of application code, told with the application's own lines first."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from stead.errors import SteadError

_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+), in (.+)\n(?: {4,}(.+))?', re.MULTILINE)
_Frame = tuple[str, str, str, str]
"""A file, a line's number, a function and the line itself."""


class LoadFailed(SteadError):
    """The application's code raised while it was imported or prepared. The message shows where."""

    status = 400

    def __init__(self, what: str, cause: BaseException, directory: Path) -> None:
        super().__init__(f"{what} failed\n{describe(cause, directory)}")


def describe(error: BaseException, directory: Path) -> str:
    """The error and its notes, then the application's own lines that led there, the nearest first (all lines if none is its own).

    Lines in another unit, which an error carries in its notes, are nearer than those of who called it.
    """
    whole = traceback.TracebackException.from_exception(error, compact=True)
    notes, whole.__notes__ = whole.__notes__ or [], None
    carried = [frame for note in notes for frame in reversed(_carried_frames(note))]
    frames = [*carried, *reversed([(frame.filename, str(frame.lineno), frame.name, frame.line or "") for frame in whole.stack])]
    frames = [frame for frame in dict.fromkeys(frames) if not frame[0].startswith("<frozen ")]
    shown = [frame for frame in frames if is_own_file(frame[0], directory)]
    if not shown and not isinstance(error, SyntaxError):
        shown = frames
    text = ["".join(whole.format_exception_only()).rstrip()]
    text += [f"  {note}" for note in notes if not _carried_frames(note)]
    for file, line, function, source in shown:
        text.append(f"  at {_relative(file, directory)}:{line}, in {function}")
        text += [f"      {source.strip()}"] if source else []
    if len(frames) > len(shown) > 0:
        text.append(f"  (and {len(frames) - len(shown)} lines of Stead and other libraries)")
    if error.__cause__ is not None:
        text.append("caused by " + describe(error.__cause__, directory))
    return "\n".join(text)


def _carried_frames(note: str) -> list[_Frame]:
    return _FRAME.findall(note)


def is_own_file(file: str, directory: Path) -> bool:
    """Whether a source file is the application's in `directory`, and not of a virtual environment that lives there as well."""
    return Path(file).is_relative_to(directory) and "site-packages" not in Path(file).parts


def _relative(file: str, directory: Path) -> str:
    return str(Path(file).relative_to(directory)) if Path(file).is_relative_to(directory) else file
