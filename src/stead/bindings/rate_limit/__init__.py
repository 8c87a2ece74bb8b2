"""`env.LIMITER.limit(key)`: how often something may be done, counted by an actor for each key."""

from stead.bindings.rate_limit.actor import Algorithm, RateLimit, meter_class
from stead.bindings.rate_limit.client import RateLimiter

__all__ = ["Algorithm", "RateLimit", "RateLimiter", "meter_class"]
