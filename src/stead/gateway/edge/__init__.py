"""WebSockets below ASGI: connections that need no task while they are silent. See the gateway's DESIGN.md."""

from stead.gateway.edge.connection import Connection, ConnectionFailed, Receiver, SocketLimits, Wire
from stead.gateway.edge.edge import Edge
from stead.gateway.edge.session import DENIAL, EXTENSION, Disconnected, Session

__all__ = [
    "DENIAL",
    "EXTENSION",
    "Connection",
    "ConnectionFailed",
    "Disconnected",
    "Edge",
    "Receiver",
    "Session",
    "SocketLimits",
    "Wire",
]
