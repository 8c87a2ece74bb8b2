"""The assembler: an application from its directory, and a node that runs it. See DESIGN.md."""

from stead.node.application import LoadedApplication, load_application, manifest_path
from stead.node.migrations import read_migrations
from stead.node.node import Node, Operating, UnitLine, directory, public_actors
from stead.node.secrets import SecretStore
from stead.node.settings import MIB, SQLITE, ClusterSettings, Settings
from stead.node.traces import LoadFailed, describe
from stead.node.variables import declared_variables, find_values, resolved

__all__ = [
    "MIB",
    "SQLITE",
    "ClusterSettings",
    "LoadFailed",
    "LoadedApplication",
    "Node",
    "Operating",
    "SecretStore",
    "Settings",
    "UnitLine",
    "declared_variables",
    "describe",
    "directory",
    "find_values",
    "load_application",
    "manifest_path",
    "public_actors",
    "read_migrations",
    "resolved",
]
