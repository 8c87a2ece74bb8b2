"""The client: a socket to a room that comes back by itself. See DESIGN.md."""

from stead.client.address import RoomAddress
from stead.client.connection import Connector, Disconnected, HandshakeRefused, connect_tcp, opening_failure
from stead.client.events import Closed, Failed, Opened, SocketEvent
from stead.client.replay import Published, Reset, replayed
from stead.client.room import Query, RoomSocket
from stead.client.settings import Backoff, Settings

__all__ = [
    "Backoff",
    "Closed",
    "Connector",
    "Disconnected",
    "Failed",
    "HandshakeRefused",
    "Opened",
    "Published",
    "Query",
    "Reset",
    "RoomAddress",
    "RoomSocket",
    "Settings",
    "SocketEvent",
    "connect_tcp",
    "opening_failure",
    "replayed",
]
