"""What code leaves to the garbage collector, whose runs stop every actor for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage() -> Iterator[list[str]]:
    """Filled at the end of the block: the types of the runtime's objects of which it has left cycles."""
    left: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += [type(thing).__name__ for thing in gc.garbage if type(thing).__module__.startswith("stead.runtime")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
