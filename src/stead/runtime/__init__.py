"""Actors and services at work: mailboxes, turns, gates, commits, alarms and stubs; `DESIGN.md` says how."""

from stead.runtime.dispatcher import Dispatcher, Elsewhere, MakeElsewhere
from stead.runtime.failures import Packed, packed, unpacked
from stead.runtime.gate import Lease
from stead.runtime.responses import WholeResponse, is_whole
from stead.runtime.runtime import Limits, Runtime
from stead.runtime.tasks import Tasks
from stead.runtime.turn import Delivery, Reply, Turn

__all__ = [
    "Delivery",
    "Dispatcher",
    "Elsewhere",
    "Lease",
    "Limits",
    "MakeElsewhere",
    "Packed",
    "Reply",
    "Runtime",
    "Tasks",
    "Turn",
    "WholeResponse",
    "is_whole",
    "packed",
    "unpacked",
]
