"""`env.logger`: lines with fields, through the standard library's logging."""

from __future__ import annotations

import logging
from typing import Any

from stead.runtime.turn import CURRENT


class Logger:
    """`env.logger.with_(user="ada").info("added", items=3)`; inside a turn the line carries the actor's id."""

    def __init__(self, fields: dict[str, Any] | None = None) -> None:
        self._fields = fields or {}
        self._log = logging.getLogger("stead.app")

    def with_(self, **fields: Any) -> Logger:
        """A logger that adds these fields to every line."""
        return Logger({**self._fields, **fields})

    def debug(self, message: str, **fields: Any) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write(logging.ERROR, message, fields)

    def _write(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if not self._log.isEnabledFor(level):
            return
        turn = CURRENT.get()
        actor = {} if turn is None else {"actor": turn.activation.actor.text}
        said = "".join(f" {name}={value!r}" for name, value in {**actor, **self._fields, **fields}.items())
        self._log.log(level, "%s%s", message, said)
