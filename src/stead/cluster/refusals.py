"""The lines in the log about those who are not let in: bounded, for strangers must not fill the disk."""

from __future__ import annotations

import asyncio
import logging

LINES_MAX = 10  # in a second; the others are counted
_log = logging.getLogger("stead.cluster")


class Refusals:
    """Tells why connections are refused."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._count = 0  # in that second

    def tell(self, address: str, reason: str) -> None:
        """A connection from `address` was refused."""
        second = int(self._loop.time())
        if second != self._second:
            if self._count > LINES_MAX:
                _log.warning("refused %d more connections to the port of channels", self._count - LINES_MAX)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= LINES_MAX:
            _log.warning("refused a connection from %s: %s", address, reason)
