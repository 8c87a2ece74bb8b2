"""A share of a kv cache: one of the actors among which its keys are spread.

    m:<key>              [expires_ms or None, metadata, size_bytes]
    v:<key>\\0<piece>     the value, in pieces that fit a storage value
    x:<expires_ms>:<key> what expires when, so that the sweep reads only what it removes

A key that has expired is gone for readers at once; the sweep, an alarm at the earliest expiry, makes room for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stead.api import Actor, AlarmInfo, on_alarm, reads

PIECE_BYTES = 1024 * 1024
SWEEP_KEYS_MAX = 500  # in one turn; the next one follows at once
_SWEEP = "sweep"

Row = tuple[int | None, Any, int]
"""When it expires in wall milliseconds (None: never), its metadata, and the value's size in bytes."""


class KvShard(Actor):
    async def put(self, key: str, value: bytes, expires_ms: int | None, metadata: Any) -> None:
        await self._remove(key)
        await self.storage.put(_meta(key), [expires_ms, metadata, len(value)])
        for piece in range(0, max(1, len(value)), PIECE_BYTES):
            await self.storage.put(_piece(key, piece // PIECE_BYTES), value[piece : piece + PIECE_BYTES])
        if expires_ms is not None:
            await self.storage.put(_expiry(expires_ms, key), None)
            alarm = await self.alarms.get(_SWEEP)
            if alarm is None or alarm.dead or alarm.due_ms > expires_ms:
                await self.alarms.set(_SWEEP, expires_ms)

    async def delete(self, key: str) -> None:
        await self._remove(key)

    @reads
    async def get(self, key: str) -> tuple[bytes, Any] | None:
        """The value and its metadata."""
        row = await self._row(key)
        if row is None:
            return None
        return await self._value(key, row[2]), row[1]

    @reads
    async def get_many(self, keys: Sequence[str]) -> dict[str, tuple[bytes, Any]]:
        found = {}
        for key in keys:
            entry = await self.get(key)
            if entry is not None:
                found[key] = entry
        return found

    @reads
    async def keys(self, prefix: str, after: str, limit: int) -> list[tuple[str, int | None, Any]]:
        """Up to `limit` keys that begin with `prefix` and come after `after`, with expiry and metadata, in order."""
        now_ms = self._now_ms()
        found: list[tuple[str, int | None, Any]] = []
        start_after = _meta(after) if after else None
        while len(found) < limit:
            rows = await self.storage.list(_meta(prefix), start_after=start_after, limit=limit)
            for stored, (expires_ms, metadata, _) in rows.items():
                if not _is_over(expires_ms, now_ms):
                    found.append((stored[len(_meta("")) :], expires_ms, metadata))
            if len(rows) < limit:
                break
            start_after = next(reversed(rows))
        return found[:limit]

    @on_alarm(_SWEEP)
    async def _sweep(self, alarm: AlarmInfo) -> None:
        now_ms = self._now_ms()
        expiries = list(await self.storage.list("x:", limit=SWEEP_KEYS_MAX))
        for stored in expiries:
            expires_ms, key = _expiry_of(stored)
            if expires_ms > now_ms:
                await self.alarms.set(_SWEEP, expires_ms)
                return
            await self._remove(key)
        if len(expiries) == SWEEP_KEYS_MAX:
            await self.alarms.set(_SWEEP, now_ms)

    async def _remove(self, key: str) -> None:
        stored = await self.storage.get(_meta(key))
        if stored is None:
            return
        expires_ms, _, size_bytes = stored
        await self.storage.delete(_meta(key))
        await self.storage.delete_many([_piece(key, piece) for piece in range(_pieces(size_bytes))])
        if expires_ms is not None:
            await self.storage.delete(_expiry(expires_ms, key))

    async def _row(self, key: str) -> Row | None:
        stored: Row | None = await self.storage.get(_meta(key))
        return None if stored is None or _is_over(stored[0], self._now_ms()) else stored

    async def _value(self, key: str, size_bytes: int) -> bytes:
        pieces: list[bytes] = [await self.storage.get(_piece(key, piece)) for piece in range(_pieces(size_bytes))]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)


def _is_over(expires_ms: int | None, now_ms: int) -> bool:
    return expires_ms is not None and expires_ms <= now_ms


def _pieces(size_bytes: int) -> int:
    return max(1, -(-size_bytes // PIECE_BYTES))


def _meta(key: str) -> str:
    return f"m:{key}"


def _piece(key: str, piece: int) -> str:
    return f"v:{key}\0{piece:04}"


def _expiry(expires_ms: int, key: str) -> str:
    return f"x:{expires_ms:015}:{key}"


def _expiry_of(stored: str) -> tuple[int, str]:
    return int(stored[2:17]), stored[18:]
