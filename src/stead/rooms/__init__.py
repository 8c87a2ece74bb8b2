"""What many rooms need, as mixins written with the public API alone: who is here, and what a client missed.

A mixin stands before `Actor` in the bases, and a class that overrides one of its hooks calls `super()`'s.
"""

from stead.rooms.presence import Presence
from stead.rooms.replay import Replay

__all__ = ["Presence", "Replay"]
