"""Which binding serves each data unit of a manifest, with its settings."""

from __future__ import annotations

from functools import partial

from stead.bindings import Algorithm, Binding, KvCache, KvShard, RateLimit, RateLimiter, meter_class
from stead.manifest import MEM, Application


def data_services(manifest: Application) -> dict[str, Binding]:
    """The bindings of an application's data units, by the unit's name."""
    found = {
        unit.name: Binding(meter_class(RateLimit(unit.limit, unit.period_s, Algorithm(unit.algorithm))), RateLimiter)
        for unit in manifest.rate_limits
    }
    for cache in manifest.kv_caches:
        found[cache.name] = Binding(KvShard, partial(KvCache, cache_ttl_s=cache.cache_ttl_s))
    found[MEM.lower()] = Binding(KvShard, KvCache)
    return found
