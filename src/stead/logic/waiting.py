"""Whether calls wait for each other in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

N = TypeVar("N")


def find_circle(start: Iterable[N], ends: Callable[[N], bool], waits_for: Callable[[N], Iterable[N]]) -> list[N] | None:
    """A path from one of `start` along `waits_for` to a node that `ends` accepts, or None. Each node is visited once."""
    paths = [[node] for node in start]
    seen: set[int] = set()
    while paths:
        path = paths.pop()
        node = path[-1]
        if id(node) in seen:
            continue
        seen.add(id(node))
        if ends(node):
            return path
        paths.extend([*path, other] for other in waits_for(node))
    return None
