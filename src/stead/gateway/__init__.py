"""Bytes from outside: an ASGI application that turns requests into events and failures into problems."""

from stead.gateway.admission import Limits
from stead.gateway.app import Deliver, Endpoint, Gateway, OnRequest, Operations
from stead.gateway.edge import Disconnected, Edge, Receiver, SocketLimits, Wire
from stead.gateway.parties import Parties, Rooms
from stead.gateway.problems import Describe
from stead.gateway.sites import Directory, Site

__all__ = [
    "Deliver",
    "Describe",
    "Directory",
    "Disconnected",
    "Edge",
    "Endpoint",
    "Gateway",
    "Limits",
    "OnRequest",
    "Operations",
    "Parties",
    "Receiver",
    "Rooms",
    "Site",
    "SocketLimits",
    "Wire",
]
