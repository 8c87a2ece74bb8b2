"""Data services, each an actor and a client written with the public API alone. See DESIGN.md."""

from stead.bindings.binding import Binding
from stead.bindings.kv import KvCache, KvEntry, KvKey, KvPage, KvShard
from stead.bindings.observer import observer_service
from stead.bindings.queue import Leased, Queue, QueueSettings, QueueStatus, queue_class
from stead.bindings.rate_limit import Algorithm, RateLimit, RateLimiter, meter_class

__all__ = [
    "Algorithm",
    "Binding",
    "KvCache",
    "KvEntry",
    "KvKey",
    "KvPage",
    "KvShard",
    "Leased",
    "Queue",
    "QueueSettings",
    "QueueStatus",
    "RateLimit",
    "RateLimiter",
    "meter_class",
    "observer_service",
    "queue_class",
]
