"""Data services, each an actor and a client written with the public API alone. See DESIGN.md."""

from stead.bindings.binding import Binding
from stead.bindings.rate_limit import Algorithm, RateLimit, RateLimiter, meter_class

__all__ = ["Algorithm", "Binding", "RateLimit", "RateLimiter", "meter_class"]
