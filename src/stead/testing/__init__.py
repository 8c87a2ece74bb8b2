"""The test kit: a whole application in memory, on a loop in which a seed decides and time is virtual. See DESIGN.md.

Names are looked up on first use: pytest imports this package in every run where Stead is installed, whether tests use it or not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stead.client import Disconnected, HandshakeRefused
    from stead.testing.app import TestApp, World
    from stead.testing.cluster import Cluster
    from stead.testing.database import Database, DatabaseEngine
    from stead.testing.faults import FaultEngine, HeldCommits
    from stead.testing.link import Link
    from stead.testing.loop import Refused, SeededLoop, Stuck, VirtualClock, current_clock, run
    from stead.testing.network import MemoryNetwork
    from stead.testing.peer import Peer
    from stead.testing.sabotage import SABOTAGES, sabotaged
    from stead.testing.sabotage_bindings import BINDING_SABOTAGES
    from stead.testing.sabotage_channels import CHANNEL_SABOTAGES
    from stead.testing.sabotage_cluster import CLUSTER_SABOTAGES
    from stead.testing.sabotage_cluster_sockets import CLUSTER_SOCKET_SABOTAGES
    from stead.testing.sabotage_cluster_turns import CLUSTER_TURN_SABOTAGES
    from stead.testing.sabotage_sockets import SOCKET_SABOTAGES
    from stead.testing.seat import Place
    from stead.testing.seeds import SEEDS, check, find
    from stead.testing.socket import TestSocket

__all__ = [
    "CLUSTER_SABOTAGES",
    "CLUSTER_SOCKET_SABOTAGES",
    "CLUSTER_TURN_SABOTAGES",
    "BINDING_SABOTAGES",
    "CHANNEL_SABOTAGES",
    "SABOTAGES",
    "SEEDS",
    "SOCKET_SABOTAGES",
    "Cluster",
    "Database",
    "DatabaseEngine",
    "Disconnected",
    "FaultEngine",
    "HandshakeRefused",
    "HeldCommits",
    "Link",
    "MemoryNetwork",
    "Peer",
    "Place",
    "Refused",
    "SeededLoop",
    "Stuck",
    "TestApp",
    "TestSocket",
    "VirtualClock",
    "World",
    "check",
    "current_clock",
    "find",
    "run",
    "sabotaged",
]

_PLACES = {
    "CLUSTER_SABOTAGES": "stead.testing.sabotage_cluster",
    "CLUSTER_SOCKET_SABOTAGES": "stead.testing.sabotage_cluster_sockets",
    "CLUSTER_TURN_SABOTAGES": "stead.testing.sabotage_cluster_turns",
    "BINDING_SABOTAGES": "stead.testing.sabotage_bindings",
    "CHANNEL_SABOTAGES": "stead.testing.sabotage_channels",
    "SABOTAGES": "stead.testing.sabotage",
    "SEEDS": "stead.testing.seeds",
    "SOCKET_SABOTAGES": "stead.testing.sabotage_sockets",
    "Cluster": "stead.testing.cluster",
    "Database": "stead.testing.database",
    "DatabaseEngine": "stead.testing.database",
    "Disconnected": "stead.client",
    "FaultEngine": "stead.testing.faults",
    "HandshakeRefused": "stead.client",
    "HeldCommits": "stead.testing.faults",
    "Link": "stead.testing.link",
    "MemoryNetwork": "stead.testing.network",
    "Peer": "stead.testing.peer",
    "Place": "stead.testing.seat",
    "Refused": "stead.testing.loop",
    "SeededLoop": "stead.testing.loop",
    "Stuck": "stead.testing.loop",
    "TestApp": "stead.testing.app",
    "TestSocket": "stead.testing.socket",
    "VirtualClock": "stead.testing.loop",
    "World": "stead.testing.app",
    "check": "stead.testing.seeds",
    "current_clock": "stead.testing.loop",
    "find": "stead.testing.seeds",
    "run": "stead.testing.loop",
    "sabotaged": "stead.testing.sabotage",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'stead.testing' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
