"""`self.storage`: an actor's keys and values, inside the turn that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from stead import codec
from stead.clock import When
from stead.errors import Invalid
from stead.runtime.alarms import ActorAlarms
from stead.runtime.turn import TRANSACTION, Turn
from stead.storage.contract import KEY_BYTES_MAX
from stead.storage.entries import USER, Entries, Layer, range_end

DEFAULT_ALARM = ""


class Host(Protocol):
    """What storage asks of its actor."""

    @property
    def entries(self) -> Entries: ...
    @property
    def alarms(self) -> ActorAlarms: ...
    def ready(self, what: str, *, writes: bool = False) -> Turn | None: ...
    async def writable(self, what: str) -> Turn: ...
    async def readable(self, what: str) -> Turn: ...
    async def erase(self, turn: Turn, what: str) -> None: ...
    async def sync(self, turn: Turn) -> None: ...
    def begin(self, turn: Turn) -> Layer: ...
    def keep(self, turn: Turn) -> None: ...
    async def undo(self, turn: Turn, transaction: Layer) -> None: ...


class ActorStorage:
    """The implementation of `stead.Storage`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        turn = self._host.ready("storage.get()") or await self._host.readable("storage.get()")
        entries, name = self._host.entries, _key(key)
        if entries.knows(name, turn.layers):
            data = entries.known(name, turn.layers)
        else:
            data = await entries.get(name, turn.layers)
        if data is None:
            return default
        value = codec.decode(data)
        return value if type is None else codec.convert(value, type)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        turn = await self._host.readable("storage.get_many()")
        found = await self._host.entries.get_many(sorted(_key(key) for key in keys), turn.layers)
        return {key[1:].decode(): codec.decode(data) for key, data in found.items()}

    async def put(self, key: str, value: object) -> None:
        turn = self._host.ready("storage.put()", writes=True) or await self._host.writable("storage.put()")
        turn.layer.writes[_key(key)] = codec.encode(value, codec.VALUE_BYTES_MAX)

    async def put_many(self, values: Mapping[str, object]) -> None:
        turn = await self._host.writable("storage.put_many()")
        turn.layer.writes.update({_key(key): codec.encode(value, codec.VALUE_BYTES_MAX) for key, value in values.items()})

    async def delete(self, key: str) -> bool:
        return await self.delete_many([key]) == 1

    async def delete_many(self, keys: Sequence[str]) -> int:
        turn = await self._host.writable("storage.delete()")
        found = await self._host.entries.get_many(list({_key(key) for key in keys}), turn.layers)
        turn.layer.writes.update(dict.fromkeys(found))
        return len(found)

    async def list(
        self,
        prefix: str = "",
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> dict[str, Any]:
        turn = await self._host.readable("storage.list()")
        if start is not None and start_after is not None:
            raise Invalid("storage.list() takes start or start_after, not both")
        if limit is not None and limit <= 0:
            raise Invalid(f"storage.list(): limit must be positive, got {limit}")
        first = range_start = _bound(prefix)
        if start is not None:
            first = max(range_start, _bound(start))
        elif start_after is not None:
            first = max(range_start, _bound(start_after) + b"\0")
        last = range_end(range_start)
        if end is not None:
            last = _bound(end) if last is None else min(last, _bound(end))
        rows = await self._host.entries.scan(first, last, turn.layers, reverse=reverse, limit=limit)
        return {key[1:].decode(): codec.decode(data) for key, data in rows}

    async def delete_all(self) -> None:
        turn = await self._host.writable("storage.delete_all()")
        if len(turn.layers) > 1:
            raise Invalid("storage.delete_all() cannot be part of storage.transaction(); call it before or after")
        await self._host.erase(turn, "storage.delete_all()")

    async def sync(self) -> None:
        await self._host.sync(await self._host.readable("storage.sync()"))

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        turn = await self._host.writable("storage.transaction()")
        outer, transaction = TRANSACTION.get(), self._host.begin(turn)
        TRANSACTION.set(transaction)
        try:
            yield
            if not turn.over:
                self._host.keep(turn)
        except BaseException:
            if transaction in turn.layers:
                await self._host.undo(turn, transaction)
            raise
        finally:
            TRANSACTION.set(outer)

    async def set_alarm(self, when: When) -> None:
        await self._host.alarms.set(DEFAULT_ALARM, when)

    async def get_alarm(self) -> int | None:
        alarm = await self._host.alarms.get(DEFAULT_ALARM)
        return None if alarm is None or alarm.dead else alarm.due_ms

    async def delete_alarm(self) -> None:
        await self._host.alarms.cancel(DEFAULT_ALARM)


def _bound(key: str) -> bytes:
    if not isinstance(key, str):
        raise Invalid(f"a key must be str, got {type(key).__name__}")
    try:
        return USER + key.encode()
    except UnicodeEncodeError as exc:
        raise Invalid("a key must be valid Unicode (it holds a lone surrogate)") from exc


def _key(key: str) -> bytes:
    data = _bound(key)
    if len(data) > KEY_BYTES_MAX:
        raise Invalid(f"a key may have {KEY_BYTES_MAX - 1:,} bytes in UTF-8, this one has {len(data) - 1:,}")
    return data
