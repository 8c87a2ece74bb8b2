"""Which node is whose: alarms of orphans by slices.

A slice is a share of all actors, fixed for ever by an actor's id, so an engine can store it beside each alarm and ask for the
slices of one node without reading the others.
"""

from __future__ import annotations

from zlib import crc32

SLICES = 1024  # far more than nodes, so that shares are even; a power of two, so that they stay so as nodes double


def slice_of(actor_text: str) -> int:
    """The slice of an actor, by its id's text."""
    return crc32(actor_text.encode()) % SLICES


def rank_of(slice_number: int, nodes: int) -> int:
    """Which of `nodes` live nodes, ordered by incarnation, a slice belongs to."""
    return slice_number % nodes
