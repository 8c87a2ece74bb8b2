"""Which binding serves each data unit of a manifest, with its settings."""

from __future__ import annotations

from stead.bindings import Algorithm, Binding, RateLimit, RateLimiter, meter_class
from stead.manifest import Application


def data_services(manifest: Application) -> dict[str, Binding]:
    """The bindings of an application's data units, by the unit's name."""
    return {
        unit.name: Binding(meter_class(RateLimit(unit.limit, unit.period_s, Algorithm(unit.algorithm))), RateLimiter)
        for unit in manifest.rate_limits
    }
