"""`Observer` and `Task`: the classes that users subclass for code that reacts to events and to time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stead.api.env import Env


class Message(Protocol):
    """One message of a queue or one event of a bucket. Returning acknowledges it, raising retries it; the first call wins."""

    @property
    def id(self) -> str:
        """The same at each attempt, and that of no other message of the application: good as an idempotency key."""
        ...

    @property
    def timestamp(self) -> datetime: ...
    @property
    def body(self) -> Any: ...
    @property
    def attempts(self) -> int: ...
    def ack(self) -> None: ...
    def retry(self, delay_s: float | None = None) -> None: ...


class Batch(Protocol):
    """Messages of one queue, delivered together."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def queue(self) -> str: ...
    def ack_all(self) -> None: ...
    def retry_all(self, delay_s: float | None = None) -> None: ...


class Tick(Protocol):
    """One run of a task."""

    @property
    def cron(self) -> str: ...
    @property
    def scheduled_time(self) -> datetime: ...


class Observer:
    """Reacts to the messages of a queue or the events of a bucket. Override `process` or `process_batch`."""

    env: Env

    async def process(self, message: Message) -> None:
        """Override to handle one message."""

    async def process_batch(self, batch: Batch) -> None:
        """Override to handle many messages at once; as it is, it hands them to `process` one by one."""
        for message in batch.messages:
            await self.process(message)


class Task:
    """Runs on a schedule."""

    env: Env

    async def run(self, tick: Tick) -> None:
        """Override to do the work of one tick."""
