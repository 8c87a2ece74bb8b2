"""The client: a socket to a room that comes back by itself. See DESIGN.md."""

from stead.client.connection import Connector, Disconnected, HandshakeRefused, opening_failure

__all__ = ["Connector", "Disconnected", "HandshakeRefused", "opening_failure"]
