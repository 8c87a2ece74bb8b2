"""Waiting for an event, for a while."""

from __future__ import annotations

import asyncio


async def wait_set(event: asyncio.Event, limit_s: float) -> bool:
    """Wait until the event is set, at most `limit_s`. Returns whether it is."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
