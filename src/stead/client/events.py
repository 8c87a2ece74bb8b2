"""What happens to a socket's connection, as its listener is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Opened:
    """A connection is open, and what had waited was sent. `reconnects` counts those before it."""

    reconnects: int


@dataclass(frozen=True)
class Closed:
    """The connection has ended; `retry_s` says when the next try comes, None that there is none."""

    code: int
    reason: str
    retry_s: float | None


@dataclass(frozen=True)
class Failed:
    """A try to connect has failed; `retry_s` as in `Closed`."""

    error: Exception
    retry_s: float | None


SocketEvent = Opened | Closed | Failed
