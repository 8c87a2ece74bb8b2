"""The front of a shard: parcels that were read and are next to be handed out, and what observers have.

All of it is in memory only: after a crash the parcels are read again, and what was in hands is handed out again. Reading goes on
from where it ended, because what lies before that is in hands or gone; `rewind` is for whoever puts anything there, or lets it go.
"""

from __future__ import annotations

from collections.abc import Mapping

from stead.bindings.queue.parcel import Parcel, Parcels, count_of, first_of


class Front:
    def __init__(self, start: str) -> None:
        self._start = start
        self.read_until = start  # a key; all that is ready before it is known
        self.in_hands: set[int] = set()  # numbers of messages
        self._parcels: dict[str, Parcel] = {}  # or what is left of each, in their order
        self.messages = 0  # in them

    @property
    def first_key(self) -> str | None:
        return next(iter(self._parcels), None)

    def add(self, parcels: Parcels) -> None:
        """What was read behind `read_until`."""
        for key, parcel in parcels.items():
            self.read_until = key
            free = self.free(parcel)
            if free is not None:
                self._parcels[key] = free
                self.messages += len(free.numbers)

    def free(self, parcel: Parcel) -> Parcel | None:
        """Those of the messages that nobody has in hands."""
        return parcel if self.in_hands.isdisjoint(parcel.numbers) else parcel.divide(self.in_hands)[1]

    def take(self, limit: int) -> dict[str, Parcel]:
        """The first `limit` messages, from now on in somebody's hands."""
        taken = first_of(self._parcels, limit)
        for key, part in taken.items():
            self.in_hands.update(part.numbers)
            _, rest = self._parcels[key].divide(part.numbers)
            if rest is None:
                del self._parcels[key]
            else:
                self._parcels[key] = rest
        self.messages -= count_of(taken)
        return taken

    def let_go(self, taken: Mapping[str, Parcel]) -> None:
        """Nobody has these in hands any more."""
        for part in taken.values():
            self.in_hands.difference_update(part.numbers)

    def rewind(self) -> None:
        """Have all read anew."""
        self.read_until = self._start
        self._parcels.clear()
        self.messages = 0
