"""Data services, each an actor and a client written with the public API alone. See DESIGN.md."""

from stead.bindings.binding import Binding
from stead.bindings.kv import KvCache, KvEntry, KvKey, KvPage, KvShard
from stead.bindings.rate_limit import Algorithm, RateLimit, RateLimiter, meter_class

__all__ = ["Algorithm", "Binding", "KvCache", "KvEntry", "KvKey", "KvPage", "KvShard", "RateLimit", "RateLimiter", "meter_class"]
