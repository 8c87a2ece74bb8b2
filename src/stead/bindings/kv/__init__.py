"""`env.SESSIONS` of a `kv_cache`: keys and values that may expire, shared by all units of the application."""

from stead.bindings.kv.actor import KvShard
from stead.bindings.kv.client import KvCache, KvEntry, KvKey, KvPage

__all__ = ["KvCache", "KvEntry", "KvKey", "KvPage", "KvShard"]
