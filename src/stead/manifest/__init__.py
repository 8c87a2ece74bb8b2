"""Declarations: the manifest of an application, read and checked. See DESIGN.md."""

from stead.manifest.checks import ManifestErrors, parse_manifest
from stead.manifest.file import MANIFEST_NAMES, find_manifest, load_manifest
from stead.manifest.schema import (
    MEM,
    S3_CREDENTIALS,
    S3_LABEL,
    Action,
    Actor,
    Application,
    Bucket,
    EnvVariable,
    KvCache,
    Observer,
    Queue,
    RateLimit,
    Reachable,
    Rule,
    Service,
    SqlDatabase,
    Task,
    Unit,
    Visibility,
)
from stead.manifest.tree import Position

__all__ = [
    "MANIFEST_NAMES",
    "MEM",
    "S3_CREDENTIALS",
    "S3_LABEL",
    "Action",
    "Actor",
    "Application",
    "Bucket",
    "EnvVariable",
    "KvCache",
    "ManifestErrors",
    "Observer",
    "Position",
    "Queue",
    "RateLimit",
    "Reachable",
    "Rule",
    "Service",
    "SqlDatabase",
    "Task",
    "Unit",
    "Visibility",
    "find_manifest",
    "load_manifest",
    "parse_manifest",
]
