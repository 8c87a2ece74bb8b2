"""Which core serves and which asks."""

from __future__ import annotations

import os

_ALLOWED = sorted(os.sched_getaffinity(0))
SERVER_CORE = _ALLOWED[0]
CLIENT_CORE = _ALLOWED[1 % len(_ALLOWED)]
ARE_SHARED = SERVER_CORE == CLIENT_CORE  # one core for both: figures then measure the load generator too


def pin_driver() -> None:
    """Keep the driver, and what it starts unpinned, off the servers' core."""
    os.sched_setaffinity(0, {CLIENT_CORE})
