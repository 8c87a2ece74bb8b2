"""The engine contract (`stead.storage.contract`) as tests that any engine must pass.

An engine's author subclasses `EngineConformance` in a pytest module and overrides `open_engine`:

    class TestMyEngine(EngineConformance):
        async def open_engine(self, place: Path) -> Engine:
            return await MyEngine.connect(place)

Each test opens an engine in an empty place of its own. An engine that cannot be opened again over the same place sets `reopens`
to False; one that refuses single commits for what they hold is tested by `RefusingConformance`. It runs under plain pytest and
needs `hypothesis`; a failure repeats, because nothing in it is left to chance.
"""

from __future__ import annotations

from stead.testing.conformance.claims import Claims, Fencing
from stead.testing.conformance.commits import Commits
from stead.testing.conformance.model import Model
from stead.testing.conformance.reading import Alarms, Reads, Registry
from stead.testing.conformance.refusals import Refusals
from stead.testing.conformance.reopening import Reopening
from stead.testing.conformance.turns import Turns, claimed, everything

__all__ = ["EngineConformance", "RefusingConformance", "Turns", "claimed", "everything"]


class EngineConformance(Claims, Fencing, Commits, Reads, Alarms, Registry, Reopening, Model):
    """Subclass it in a pytest module and override `open_engine`. The tests are its methods."""


class RefusingConformance(EngineConformance, Refusals):
    """The same, of an engine that refuses single commits for what they hold: set `unstorable` to such writes."""
