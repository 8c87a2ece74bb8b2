"""The operator's API: listing, showing, exporting and deleting actors of a stopped data directory or a running server."""

from stead.admin.address import TOKEN_BYTES, ServerAddress, find_server, remove_address, write_address
from stead.admin.api import IMPORTS, AdminApi
from stead.admin.export import Progress
from stead.admin.imports import prepare_database
from stead.admin.nodes import CUT_OFF, DRAINING, UP, Alone, ClusterNodes, Misdirected, NodeLine, Nodes, NodesHere, Workers
from stead.admin.operator import LIST_ACTORS_MAX, EngineOperator, Operator
from stead.admin.remote import RemoteOperator, remote_operator
from stead.admin.units import NodeUnits, Units
from stead.admin.views import ActorLine, ActorsPage, ActorView, TableLine, ValueLine

__all__ = [
    "CUT_OFF",
    "DRAINING",
    "IMPORTS",
    "LIST_ACTORS_MAX",
    "TOKEN_BYTES",
    "UP",
    "ActorLine",
    "ActorView",
    "ActorsPage",
    "AdminApi",
    "Alone",
    "ClusterNodes",
    "EngineOperator",
    "Misdirected",
    "NodeLine",
    "NodeUnits",
    "Nodes",
    "NodesHere",
    "Operator",
    "Progress",
    "RemoteOperator",
    "ServerAddress",
    "TableLine",
    "Units",
    "ValueLine",
    "Workers",
    "find_server",
    "prepare_database",
    "remote_operator",
    "remove_address",
    "write_address",
]
