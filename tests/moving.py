"""Moves that come about whatever is broken."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from stead import Ambiguous, Unavailable
from stead.clock import sleep
from stead.testing import Cluster


async def move(cluster: Cluster, actor: Any, to: int) -> None:
    """As often as it takes: who is asked to move it may be the one that cannot reach it."""
    while cluster.owner(actor) != to:
        with suppress(Unavailable, Ambiguous):
            await cluster.move(actor, to)
        await sleep(0.1)
