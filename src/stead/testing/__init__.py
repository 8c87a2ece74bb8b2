"""The test kit: a whole application in memory, on a loop in which a seed decides and time is virtual. See DESIGN.md.

Names are looked up on first use: pytest imports this package in every run where Stead is installed, whether tests use it or not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stead.testing.app import TestApp, World
    from stead.testing.faults import FaultEngine, HeldCommits
    from stead.testing.loop import Refused, SeededLoop, Stuck, VirtualClock, current_clock, run
    from stead.testing.sabotage import SABOTAGES, sabotaged
    from stead.testing.seeds import SEEDS, check, find

__all__ = [
    "SABOTAGES",
    "SEEDS",
    "FaultEngine",
    "HeldCommits",
    "Refused",
    "SeededLoop",
    "Stuck",
    "TestApp",
    "VirtualClock",
    "World",
    "check",
    "current_clock",
    "find",
    "run",
    "sabotaged",
]

_PLACES = {
    "SABOTAGES": "sabotage",
    "SEEDS": "seeds",
    "FaultEngine": "faults",
    "HeldCommits": "faults",
    "Refused": "loop",
    "SeededLoop": "loop",
    "Stuck": "loop",
    "TestApp": "app",
    "VirtualClock": "loop",
    "World": "app",
    "check": "seeds",
    "current_clock": "loop",
    "find": "seeds",
    "run": "loop",
    "sabotaged": "sabotage",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'stead.testing' has no attribute {name!r}")
    value = getattr(import_module(f"stead.testing.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
