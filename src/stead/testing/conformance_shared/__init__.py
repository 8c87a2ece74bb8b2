"""The contract of engines that several nodes share (`stead.storage.membership`), as tests that any such engine must pass.

An engine's author subclasses `SharedConformance` in a pytest module and overrides `open_engines`:

    class TestMyEngine(SharedConformance):
        async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
            return [await MyEngine.connect(place) for _ in range(count)]

It comes on top of `conformance.EngineConformance`, whose engine is one that has joined alone. Each test has an empty place of its
own. Leases pass by waiting on the running loop's clock: an engine in memory runs on the seeded loop, where that costs nothing (see
`run`), one with a clock of its own keeps `lease_s` short.
"""

from __future__ import annotations

from stead.testing.conformance_shared.alarms import SharedAlarms
from stead.testing.conformance_shared.members import Members
from stead.testing.conformance_shared.model import SharedModel
from stead.testing.conformance_shared.opening import node
from stead.testing.conformance_shared.owners import Owners

__all__ = ["SharedConformance", "node"]


class SharedConformance(Members, Owners, SharedAlarms, SharedModel):
    """Subclass it in a pytest module and override `open_engines`. The tests are its methods."""
