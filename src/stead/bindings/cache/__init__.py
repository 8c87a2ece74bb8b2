"""`await self.cache.match(request)`: responses that a node remembers."""

from stead.bindings.cache.client import ResponseCache
from stead.bindings.cache.store import CacheStore

__all__ = ["CacheStore", "ResponseCache"]
