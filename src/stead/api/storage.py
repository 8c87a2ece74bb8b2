"""What an actor can do with its durable keys, alarms and SQL: the protocols behind `self.storage`, `self.alarms` and `self.sql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, overload

import msgspec

from stead.clock import When

T = TypeVar("T")
SqlValue = None | int | float | str | bytes


class Storage(Protocol):
    """An actor's keys and values. Keys are text of at most 2 KiB, values anything the codec takes up to 2 MiB.

    All of it happens inside a turn and commits with it; a value is copied when it is put and when it is got.
    """

    @overload
    async def get(self, key: str) -> Any: ...
    @overload
    async def get(self, key: str, default: T) -> T | Any: ...
    @overload
    async def get(self, key: str, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: T, *, type: type[T]) -> T: ...
    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Those of `keys` that exist, ordered by key."""
        ...

    async def put(self, key: str, value: object) -> None:
        """Set a key. The reply of this turn waits until it is durable; `put` itself does not."""
        ...

    async def put_many(self, values: Mapping[str, object]) -> None: ...
    async def delete(self, key: str) -> bool:
        """Remove a key and say whether it existed."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> int: ...
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
        """A snapshot of the keys that begin with `prefix`, with start <= key < end, ordered by their UTF-8 bytes."""
        ...

    async def delete_all(self) -> None:
        """Erase the actor: keys, alarms, SQL and durable attributes. Not inside `transaction()`.

        What it owes others stays until it is settled: signals on their way, and what it has had of signals and idempotency keys.
        """
        ...

    async def sync(self) -> None:
        """Commit what the turn wrote so far and wait until it is durable. A later failure rolls back to here."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """A part of the turn that rolls back alone when it raises. No calls to other units inside; no other task of the turn may
        use storage meanwhile.
        """
        ...

    async def set_alarm(self, when: When) -> None:
        """Set the alarm named `""`; `alarm()` runs then. A moment in the past is due at once."""
        ...

    async def get_alarm(self) -> int | None:
        """When the alarm named `""` is due, in milliseconds since 1970."""
        ...

    async def delete_alarm(self) -> None: ...


class AlarmInfo(msgspec.Struct, frozen=True):
    """What an `alarm` handler is told. `retry_count` is 0 in the first run and 6 in the last."""

    name: str
    scheduled_time: datetime
    payload: Any = None
    retry_count: int = 0

    @property
    def is_retry(self) -> bool:
        return self.retry_count > 0


class Alarm(msgspec.Struct, frozen=True):
    """An alarm as `alarms.get` and `list` show it. A dead one ran out of retries and waits for `retry`, `set` or `cancel`."""

    name: str
    due_ms: int
    payload: Any = None
    every: timedelta | None = None
    cron: str | None = None
    retry_count: int = 0
    dead: bool = False
    error: str | None = None
    timezone: str = "UTC"


class Alarms(Protocol):
    """An actor's named alarms: each calls `alarm(info)` when due, at least once and never beside itself."""

    async def set(
        self,
        name: str,
        when: When | None = None,
        payload: object = None,
        every: timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
    ) -> None:
        """Set or replace an alarm. With `every` or `cron` it recurs, first at `when` or at the next occurrence.

        The fields of `cron` are in `timezone`, an IANA name.
        """
        ...

    async def get(self, name: str) -> Alarm | None: ...
    async def list(self) -> list[Alarm]:
        """All of them, dead ones too, ordered by name."""
        ...

    async def cancel(self, name: str) -> bool:
        """Remove an alarm and say whether there was one."""
        ...

    async def retry(self, name: str) -> bool:
        """Run an alarm again from its first attempt, at once; False if there is none."""
        ...


class Sql(Protocol):
    """An actor's own SQLite database, in the same transaction as its keys. Parameters are those of `?`, or one dict of `:name`."""

    async def execute(self, query: str, *params: object) -> int:
        """Run one statement and say how many rows it changed."""
        ...

    async def fetch_all(self, query: str, *params: object) -> list[dict[str, SqlValue]]: ...
    async def fetch_one(self, query: str, *params: object) -> dict[str, SqlValue] | None: ...
    async def fetch_value(self, query: str, *params: object) -> SqlValue:
        """The first column of the first row, None if there is no row."""
        ...

    async def script(self, text: str) -> None:
        """Run several statements without parameters."""
        ...

    async def size_bytes(self) -> int: ...
