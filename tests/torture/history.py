"""All that clients and faults have done, in memory, for the checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.torture.accounts import Statement, Transfer, account_faults
from tests.torture.availability import Attempt, Fault
from tests.torture.counters import Count, counter_faults
from tests.torture.registers import Access, register_faults


@dataclass
class History:
    """Grows while the clients work. `answers` counts attempts by how they ended: a status, or why there is none."""

    counts: defaultdict[str, list[Count]] = field(default_factory=lambda: defaultdict(list))
    accesses: defaultdict[str, list[Access]] = field(default_factory=lambda: defaultdict(list))
    transfers: list[Transfer] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    answers: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    faults: list[Fault] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # answers that no fault excuses

    def found(self, statements: Mapping[str, Statement], opening: int) -> list[str]:
        """What is wrong with all of it. Raises `Undecided` where a search takes too long."""
        return [*self.wrong, *self._found(), *account_faults(self.transfers, statements, opening)]

    def _found(self) -> Iterator[str]:
        for name, counts in self.counts.items():
            yield from (f"counter {name}: {fault}" for fault in counter_faults(counts))
        for name, accesses in self.accesses.items():
            yield from (f"register {name}: {fault}" for fault in register_faults(accesses))

    @property
    def acknowledged(self) -> int:
        """Increments, writes and transfers that were answered with success."""
        counts = sum(count.value is not None and not count.is_read for history in self.counts.values() for count in history)
        writes = sum(not access.is_read and access.end_s < float("inf") for history in self.accesses.values() for access in history)
        return counts + writes + sum(transfer.is_done is True for transfer in self.transfers)

    @property
    def in_doubt(self) -> int:
        """Those of which it is not known."""
        counts = sum(count.value is None and not count.is_read for history in self.counts.values() for count in history)
        writes = sum(access.end_s == float("inf") for history in self.accesses.values() for access in history)
        return counts + writes + sum(transfer.is_done is None for transfer in self.transfers)
