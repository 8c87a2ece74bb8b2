"""Actors and services at work: mailboxes, turns, gates, commits, alarms and stubs; `DESIGN.md` says how."""

from stead.runtime.dispatcher import Dispatcher, Elsewhere, MakeElsewhere
from stead.runtime.effects import Kept
from stead.runtime.failures import Packed, packed, unpacked
from stead.runtime.gate import Lease
from stead.runtime.handshake import uri_of
from stead.runtime.inbound import Inbound, Rest
from stead.runtime.responses import WholeResponse, is_whole
from stead.runtime.room import Rooms, Stay
from stead.runtime.runtime import Limits, Runtime
from stead.runtime.sockets import REASON_BYTES_MAX, Wire
from stead.runtime.tasks import Tasks
from stead.runtime.turn import Delivery, Reply, Turn

__all__ = [
    "REASON_BYTES_MAX",
    "Delivery",
    "Dispatcher",
    "Elsewhere",
    "Inbound",
    "Kept",
    "Lease",
    "Limits",
    "MakeElsewhere",
    "Packed",
    "Reply",
    "Rest",
    "Rooms",
    "Runtime",
    "Stay",
    "Tasks",
    "Turn",
    "WholeResponse",
    "Wire",
    "is_whole",
    "packed",
    "unpacked",
    "uri_of",
]
