"""Bytes from outside: an ASGI application that turns requests into events and failures into problems."""

from stead.gateway.admission import Limits
from stead.gateway.app import Deliver, Gateway, OnRequest, Operations
from stead.gateway.problems import user_traceback
from stead.gateway.sites import Directory, Site

__all__ = ["Deliver", "Directory", "Gateway", "Limits", "OnRequest", "Operations", "Site", "user_traceback"]
