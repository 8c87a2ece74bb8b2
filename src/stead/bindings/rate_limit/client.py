"""What other units see of a rate limiter."""

from __future__ import annotations

from typing import Any

from stead.api import Env, Namespace
from stead.logic.limiting import Verdict


class RateLimiter:
    """`verdict = await env.LIMITER.limit(user)`: whether one more may pass for this key."""

    def __init__(self, namespace: Namespace[Any], env: Env) -> None:
        self._namespace = namespace

    async def limit(self, key: str) -> Verdict:
        """Count one for `key` (1 to 1,024 bytes of text), unless it is refused; then `retry_after_s` says when to come back."""
        return Verdict(**await self._namespace.get(key).take())
