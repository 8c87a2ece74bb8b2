"""What an observer is given: the implementations of `stead.Message` and `stead.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stead.bindings.queue.message import Leased, Verdict


class ObservedMessage:
    """A message in an observer's hands. The first verdict counts."""

    def __init__(self, leased: Leased, body: Any) -> None:
        self._leased = leased
        self.body = body
        self.verdict: Verdict | None = None

    @property
    def id(self) -> str:
        return self._leased.id

    @property
    def timestamp(self) -> datetime:
        return datetime.fromtimestamp(self._leased.sent_ms / 1000, UTC)

    @property
    def attempts(self) -> int:
        return self._leased.attempts

    def ack(self) -> None:
        self._decide(Verdict(self._leased.key, True))

    def retry(self, delay_s: float | None = None) -> None:
        self._decide(Verdict(self._leased.key, False, delay_s))

    def _decide(self, verdict: Verdict) -> None:
        if self.verdict is None:
            self.verdict = verdict


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
