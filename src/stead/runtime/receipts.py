"""What an actor has had already: signals by their number, calls by their idempotency key.

Both are entries, written by the turn that they tell of, so a call and the memory of it commit together. A turn that calls out in
its middle commits in parts, and only its last part holds the receipt: if it fails after that, what it did before is done again.

    d<sender>              of a signal's sender: the number below which all is settled, and the numbers above it that arrived
    i<key>                 of an idempotency key: when it may be forgotten, and the result
    j<when><key>           the same keys by that time
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from stead import codec
from stead.clock import Clock
from stead.errors import Invalid
from stead.events import Call, Origin
from stead.runtime.turn import Turn
from stead.storage.entries import EXPIRY, RESULT, SEEN, Entries

IDEMPOTENCY_MS = 24 * 3600 * 1000  # how long the first result answers repeats
IDEMPOTENCY_KEY_BYTES_MAX = 255
FORGOTTEN_MAX = 20  # results that are over, dropped with each new one: more than come
_NONE = codec.encode(None)

Run = Callable[[Call], Awaitable[bytes]]


class _Seen(msgspec.Struct, array_like=True):
    floor: int
    numbers: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode_seen = msgspec.msgpack.Decoder(_Seen).decode
_decode_result = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


def check_idempotency_key(key: object) -> str:
    """Raises `Invalid` for what cannot be an idempotency key."""
    if not isinstance(key, str) or not key.isprintable() or not 0 < len(key.encode()) <= IDEMPOTENCY_KEY_BYTES_MAX:
        raise Invalid(f"an idempotency key is printable text of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes")
    return key


class Receipts:
    """Those of one actor."""

    def __init__(self, entries: Entries, clock: Clock) -> None:
        self._entries = entries
        self._clock = clock

    async def once(self, turn: Turn, event: Call, run: Run) -> bytes:
        """Run a call unless it was run before; then answer as that did."""
        if event.idempotency_key is not None:
            return await self._once_by_key(turn, event, event.idempotency_key, run)
        assert event.origin is not None, "only what can be repeated has a receipt"
        return await self._once_by_number(turn, event, event.origin, run)

    async def settle(self, turn: Turn, origin: Origin) -> None:
        """The sender will never send again what is below its floor."""
        key = SEEN + origin.sender.encode()
        seen = await self._seen(turn, key)
        if seen is not None and all(number < origin.floor for number in seen.numbers):
            turn.layer.writes[key] = None

    async def _once_by_number(self, turn: Turn, event: Call, origin: Origin, run: Run) -> bytes:
        key = SEEN + origin.sender.encode()
        seen = await self._seen(turn, key) or _Seen(0, [])
        if origin.number < seen.floor or origin.number in seen.numbers:
            return _NONE
        await run(event)
        floor = max(seen.floor, origin.floor)
        turn.layer.writes[key] = _encode(_Seen(floor, [number for number in [*seen.numbers, origin.number] if number >= floor]))
        return _NONE

    async def _once_by_key(self, turn: Turn, event: Call, idempotency_key: str, run: Run) -> bytes:
        key, now_ms = RESULT + f"{event.method}\0{idempotency_key}".encode(), self._clock.now_ms()
        stored = await self._entries.get(key, turn.layers)
        if stored is not None:
            until_ms, result = _decode_result(stored)
            if until_ms > now_ms:
                return result
            turn.layer.writes[_expiry(until_ms, key)] = None
        result = await run(event)
        until_ms = now_ms + IDEMPOTENCY_MS
        turn.layer.writes[key] = _encode((until_ms, result))
        turn.layer.writes[_expiry(until_ms, key)] = b""
        await self._drop_old(turn, now_ms)
        return result

    async def _drop_old(self, turn: Turn, now_ms: int) -> None:
        rows = await self._entries.scan(EXPIRY, _expiry(now_ms, b""), turn.layers, limit=FORGOTTEN_MAX)
        for expiry, _ in rows:
            turn.layer.writes[expiry] = turn.layer.writes[expiry[len(EXPIRY) + 8 :]] = None

    async def _seen(self, turn: Turn, key: bytes) -> _Seen | None:
        data = await self._entries.get(key, turn.layers)
        return None if data is None else _decode_seen(data)


def _expiry(until_ms: int, key: bytes) -> bytes:
    return EXPIRY + until_ms.to_bytes(8, "big") + key
