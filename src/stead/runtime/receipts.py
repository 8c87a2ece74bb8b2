"""What an actor has had already: signals by their number, calls by their idempotency key.

Both are entries, written by the turn that they tell of, so a call and the memory of it commit together. A turn that calls out in
its middle commits in parts, and only its last part holds the receipt: if it fails after that, what it did before is done again.

While there are results an alarm of the actor that users do not see is set: it drops those that are over, also where nobody comes
again. Both outlive `delete_all()`: who sent something does not know of it, and would send it again.

What an actor has had of a sender is compared with what that one has sent, so both must be of one history of the store: a signal of
another generation than the actor's claim is sent back, until one of the two has been claimed anew. If its sender was claimed before
a failover, the signal may be lost; if the actor was, its receipts may be.

    d<sender>              of a signal's sender: the number below which all is settled, and the numbers above it that arrived
    i<key>                 of an idempotency key: when it may be forgotten, and the result
    j<when><key>           the same keys by that time
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from stead import codec
from stead.clock import Clock
from stead.errors import Invalid, Unavailable
from stead.events import Call, Origin
from stead.runtime.chores import FORGET_ALARM
from stead.runtime.turn import Turn
from stead.storage.entries import EXPIRY, RESULT, SEEN, Entries, Layer, range_end

IDEMPOTENCY_MS = 24 * 3600 * 1000  # how long the first result answers repeats
IDEMPOTENCY_KEY_BYTES_MAX = 255
FORGOTTEN_MAX = 100  # results that one turn drops: it may have to read them, for the size of its actor
FORGET_PAUSE_MS = 600_000  # between two turns that drop results: those of some minutes share one
_NONE = codec.encode(None)
_EXPIRY_BYTES = len(EXPIRY) + 8  # of an expiry's key, before the result's

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
    """Those of one actor, whose claim is of `generation`."""

    def __init__(self, entries: Entries, clock: Clock, generation: int) -> None:
        self._entries = entries
        self._clock = clock
        self._generation = generation

    async def once(self, turn: Turn, event: Call, run: Run) -> bytes:
        """Run a call unless it was run before; then answer as that did."""
        if event.idempotency_key is not None:
            return await self._once_by_key(turn, event, event.idempotency_key, run)
        assert event.origin is not None, "only what can be repeated has a receipt"
        if not self._is_comparable(event.origin):
            raise Unavailable("the database has failed over, and the sender or the target of this signal has not heard of it yet")
        return await self._once_by_number(turn, event, event.origin, run)

    async def settle(self, turn: Turn, origin: Origin) -> None:
        """The sender will never send again what is below its floor."""
        if not self._is_comparable(origin):
            return
        key = SEEN + origin.sender.encode()
        seen = await self._seen(turn, key)
        if seen is not None and all(number < origin.floor for number in seen.numbers):
            turn.layer.writes[key] = None

    async def forget(self, turn: Turn) -> None:
        """The alarm's turn: drop what is over, and look again when more may be."""
        layer, now_ms = turn.layer, self._clock.now_ms()
        results = await self._first_results(turn.layers, FORGOTTEN_MAX + 1)
        over = [(until_ms, key) for until_ms, key in results[:FORGOTTEN_MAX] if until_ms <= now_ms]
        for until_ms, key in over:
            layer.writes[key] = layer.writes[_expiry(until_ms, key)] = None
        left = results[len(over) :]
        if not left:
            layer.alarms[FORGET_ALARM] = None
        elif len(over) == FORGOTTEN_MAX:
            layer.alarms[FORGET_ALARM] = now_ms
        else:
            layer.alarms[FORGET_ALARM] = max(left[0][0], now_ms + FORGET_PAUSE_MS)

    async def owed(self, layers: Sequence[Layer]) -> Layer:
        """What stays when the actor is erased: all of it, and the alarm that drops what is over."""
        owed = Layer()
        for kind in (SEEN, RESULT, EXPIRY):
            owed.writes.update(await self._entries.scan(kind, range_end(kind), layers))
        for until_ms, _ in await self._first_results(layers, 1):
            owed.alarms[FORGET_ALARM] = until_ms
        return owed

    def _is_comparable(self, origin: Origin) -> bool:
        """Whether what is stored here of a sender, and what the sender knows, are of one history."""
        return origin.generation == self._generation

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
        before_ms, result = (0, _NONE) if stored is None else _decode_result(stored)
        if before_ms > now_ms:
            return result
        result = await run(event)
        until_ms = now_ms + IDEMPOTENCY_MS
        if stored is not None:
            turn.layer.writes[_expiry(before_ms, key)] = None
        if not await self._first_results(turn.layers, 1):
            turn.layer.alarms[FORGET_ALARM] = until_ms
        turn.layer.writes[key] = _encode((until_ms, result))
        turn.layer.writes[_expiry(until_ms, key)] = b""
        return result

    async def _first_results(self, layers: Sequence[Layer], limit: int) -> list[tuple[int, bytes]]:
        """Until when results are kept, and their keys; those that are over first."""
        rows = await self._entries.scan(EXPIRY, range_end(EXPIRY), layers, limit=limit)
        return [(int.from_bytes(expiry[1:_EXPIRY_BYTES], "big"), expiry[_EXPIRY_BYTES:]) for expiry, _ in rows]

    async def _seen(self, turn: Turn, key: bytes) -> _Seen | None:
        data = await self._entries.get(key, turn.layers)
        return None if data is None else _decode_seen(data)


def _expiry(until_ms: int, key: bytes) -> bytes:
    return EXPIRY + until_ms.to_bytes(8, "big") + key
