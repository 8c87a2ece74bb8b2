"""The S3 endpoint of an application with buckets, which other applications do not load."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stead.api import Env
from stead.clock import Clock
from stead.ids import Chance, binding_name
from stead.manifest import S3_CREDENTIALS, S3_LABEL, Visibility
from stead.node.application import LoadedApplication
from stead.node.settings import Settings

if TYPE_CHECKING:
    from stead.gateway.s3 import S3Endpoint


def s3_endpoint(application: LoadedApplication, env: Env, settings: Settings, clock: Clock, chance: Chance) -> S3Endpoint:
    """The endpoint at `s3.localhost`, and at `s3` below the base domain."""
    units = application.manifest.buckets
    endpoint: type[S3Endpoint] = import_module("stead.gateway.s3").S3Endpoint
    return endpoint(
        [f"{S3_LABEL}.{domain}" for domain in dict.fromkeys(["localhost", settings.base_domain])],
        {unit.name: getattr(env, binding_name(unit.name)) for unit in units},
        [unit.name for unit in units if unit.visibility is Visibility.PUBLIC],
        getattr(env, S3_CREDENTIALS),
        clock,
        chance,
    )
