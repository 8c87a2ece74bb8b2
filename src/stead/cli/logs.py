"""Log lines on standard error, with errors of application code told by the application's own lines first.

A line that cannot be written (a full disk, a pipe that nobody reads any more) is lost, and nothing else is.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stead.cli.console import err
from stead.node import describe
from stead.redaction import redacted

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "bold red"}


class ConsoleHandler(logging.Handler):
    """Prints records; `directory` is the application's, whose lines come first in an error."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def emit(self, record: logging.LogRecord) -> None:
        style = _STYLES.get(record.levelno, "dim")
        lines = StringIO()  # of its own, because rich keeps what it could not write, without bound, and exits on a broken pipe
        console = Console(file=lines, force_terminal=err.is_terminal, soft_wrap=True, highlight=False)
        console.print(f"[{style}]{record.levelname.lower()}:[/] {escape(redacted(record.getMessage()))}")
        if record.exc_info and record.exc_info[1] is not None:
            console.print(escape(redacted(describe(record.exc_info[1], self._directory))))
        with suppress(OSError):
            sys.stderr.write(lines.getvalue())
            sys.stderr.flush()


def log_to_console(directory: Path) -> None:
    """Send what the application and its libraries log to standard error: warnings, and the application's own from INFO up."""
    root = logging.getLogger()
    root.handlers[:] = [ConsoleHandler(directory)]
    root.setLevel(logging.INFO)
    for noisy in ("asyncio", "httpcore", "httpx", "uvicorn", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
