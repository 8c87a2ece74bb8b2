"""A batch of commits as the arrays of one statement."""

from __future__ import annotations

from collections.abc import Sequence

from stead.logic.placement import slice_of
from stead.storage.contract import Commit
from stead.storage.postgres.schema import PIECE_BYTES
from stead.storage.postgres.statements import Parts

FOLDED_MAX = 1024  # commits of one actor in one statement: `folded` is a smallint


class Chain:
    """Commits of one claim that follow each other, and where in the batch they stand."""

    __slots__ = ("commits", "positions")

    def __init__(self, commits: list[Commit], positions: list[int]) -> None:
        self.commits = commits
        self.positions = positions

    @property
    def actor(self) -> str:
        return self.commits[0].actor.text

    @property
    def claim(self) -> tuple[str, int]:
        return self.actor, self.commits[0].epoch

    def halves(self) -> tuple[Chain, Chain]:
        half = len(self.commits) // 2
        return Chain(self.commits[:half], self.positions[:half]), Chain(self.commits[half:], self.positions[half:])


class Change:
    """What the chains of one statement come to; one chain for an actor."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._heads: list[tuple[object, ...]] = []
        self._puts: list[tuple[object, ...]] = []
        self._pieces: list[tuple[object, ...]] = []
        self._drops: list[tuple[object, ...]] = []
        self._alarm_puts: list[tuple[object, ...]] = []
        self._alarm_drops: list[tuple[object, ...]] = []
        self._erased: list[str] = []
        for chain in sorted(chains, key=lambda chain: chain.actor):
            self._add(chain)

    @property
    def parts(self) -> Parts:
        return Parts(
            erases=bool(self._erased),
            drops=bool(self._drops),
            puts=bool(self._puts),
            pieces=bool(self._pieces),
            alarm_drops=bool(self._alarm_drops),
            alarm_puts=bool(self._alarm_puts),
        )

    def arguments(self) -> list[object]:
        """The arrays, in the order of the statement of `parts`."""
        arrays: list[object] = []
        for rows in (self._heads, self._puts, self._pieces, self._drops, self._alarm_puts, self._alarm_drops):
            arrays += map(list, zip(*rows, strict=True))
        if self._erased:
            arrays.append(self._erased)
        return arrays

    def _add(self, chain: Chain) -> None:
        first, last, text = chain.commits[0], chain.commits[-1], chain.actor
        self._heads.append((text, last.epoch, last.seq, len(chain.commits), last.size_bytes, first.at_ms, last.at_ms))
        writes, alarms, erases = first.writes, first.alarms, first.erase
        for commit in chain.commits[1:]:
            writes = commit.writes if commit.erase else {**writes, **commit.writes}
            alarms = commit.alarms if commit.erase else {**alarms, **commit.alarms}
            erases = erases or commit.erase
        if erases:
            self._erased.append(text)
        for key, value in writes.items():
            if value is None:
                if not erases:
                    self._drops.append((text, key))
            elif len(value) <= PIECE_BYTES:
                self._puts.append((text, key, 0, value))
            else:
                pieces = [value[start : start + PIECE_BYTES] for start in range(0, len(value), PIECE_BYTES)]
                self._puts.append((text, key, len(pieces) - 1, pieces[0]))
                self._pieces += [(text, key, number, piece) for number, piece in enumerate(pieces) if number]
        for name, due_ms in alarms.items():
            if due_ms is not None:
                self._alarm_puts.append((text, name.encode(), slice_of(text), due_ms))
            elif not erases:
                self._alarm_drops.append((text, name.encode()))
