"""The service that a queue hands its batches to: it runs the application's observer and says what became of each message.

Whatever a message did not say of itself is said for it: returning acknowledges, raising retries. An observer with a `process_batch`
of its own is called once for the batch; otherwise each message is processed alone, so one that fails does not touch the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from stead.api import Observer, Service
from stead.bindings.observer.message import ObservedBatch, ObservedMessage
from stead.bindings.queue.message import Leased, Verdict, pack, unpack_leased
from stead.errors import Invalid

BATCH_S_MAX = 900.0  # 15 minutes: then what has no verdict is retried


def observer_service(cls: type[Observer], source: str) -> type[Service]:
    """The service around an observer class; `source` is the queue or bucket that it hears of."""
    batches = cls.process_batch is not Observer.process_batch
    if not batches and cls.process is Observer.process:
        raise Invalid(f"{cls.__name__} has neither process() nor process_batch()")
    members = {"observer_class": cls, "source": source, "batches": batches, "__module__": __name__}
    return type(f"{cls.__name__}Service", (_ObserverService,), members)


class _ObserverService(Service):
    observer_class: type[Observer]
    source: str
    batches: bool

    def __init__(self) -> None:
        self._observer = self.observer_class()
        self._observer.env = self.env

    async def deliver(self, batch: bytes) -> bytes:
        """What became of a packed list of `Leased`, as a packed list of `Verdict`."""
        messages = unpack_leased(batch)
        observed = [ObservedMessage(leased, value) for leased in messages if (value := self._value(leased)) is not _UNREADABLE]
        try:
            async with asyncio.timeout(BATCH_S_MAX):
                if self.batches:
                    await self._process_batch(ObservedBatch(self.source, observed))
                else:
                    for message in observed:
                        await self._process(message)
        except TimeoutError:
            self._report(observed, f"took longer than {BATCH_S_MAX:g} s")
            ObservedBatch(self.source, observed).retry_all()
        said = {message.verdict.key: message.verdict for message in observed if message.verdict is not None}
        return pack([said.get(leased.key, Verdict(leased.key, False)) for leased in messages])

    async def _process(self, message: ObservedMessage) -> None:
        try:
            await self._observer.process(message)
        except Exception as exc:  # noqa: BLE001 - application code was called; raising asks for a retry
            self._report([message], _described(exc))
            message.retry()
        message.ack()

    async def _process_batch(self, batch: ObservedBatch) -> None:
        try:
            await self._observer.process_batch(batch)
        except Exception as exc:  # noqa: BLE001 - as above, for all that the batch did not say itself
            self._report(batch.messages, _described(exc))
            batch.retry_all()
        batch.ack_all()

    def _value(self, leased: Leased) -> Any:
        try:
            return leased.value()
        except (msgspec.DecodeError, UnicodeDecodeError, Invalid) as exc:
            self.env.logger.error("a message cannot be read", source=self.source, id=leased.id, error=_described(exc))
            return _UNREADABLE

    def _report(self, messages: Sequence[ObservedMessage], error: str) -> None:
        ids = ", ".join(message.id for message in messages[:10])
        self.env.logger.error(
            "an observer failed", observer=self.observer_class.__name__, source=self.source, messages=ids, error=error
        )


_UNREADABLE = object()


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
