"""What an observer is given: the implementations of `stead.Message` and `stead.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stead.bindings.queue.message import message_id
from stead.bindings.queue.parcel import Parcel


class ObservedMessage:
    """A message in an observer's hands. The first verdict counts: `is_done`, or in `delay_s` to be tried again."""

    is_done: bool | None = None
    delay_s: float | None = None

    def __init__(self, actor: str, parcel: Parcel, number: int, body: Any) -> None:
        self._actor = actor
        self._parcel = parcel
        self.number = number
        self.body = body

    @property
    def id(self) -> str:
        return message_id(self._actor, self.number)

    @property
    def timestamp(self) -> datetime:
        return datetime.fromtimestamp(self._parcel.sent_ms / 1000, UTC)

    @property
    def attempts(self) -> int:
        return self._parcel.attempts

    def ack(self) -> None:
        if self.is_done is None:
            self.is_done = True

    def retry(self, delay_s: float | None = None) -> None:
        if self.is_done is None:
            self.is_done, self.delay_s = False, delay_s


class ObservedBatch:
    """Messages of one queue, delivered together."""

    def __init__(self, queue: str, messages: Sequence[ObservedMessage]) -> None:
        self.queue = queue
        self.messages = messages

    def ack_all(self) -> None:
        for message in self.messages:
            message.ack()

    def retry_all(self, delay_s: float | None = None) -> None:
        for message in self.messages:
            message.retry(delay_s)
