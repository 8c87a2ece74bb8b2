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
from stead.bindings.queue.message import UNREADABLE, decode_bodies, decode_body, message_id
from stead.bindings.queue.parcel import Parcel, pack, unpack_list
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

    async def deliver(self, actor: str, batch: bytes) -> bytes:
        """Which messages of a packed list of `Parcel` are to be tried again, as packed `Retries`: all others are done."""
        observed: list[ObservedMessage] = []
        retries: dict[int, float | None] = {}
        for parcel in unpack_list(batch):
            try:
                values = decode_bodies(parcel.bodies, parcel.content_type)
            except UNREADABLE:
                parcel, values = self._readable(actor, parcel, retries)
            observed += [
                ObservedMessage(actor, parcel, number, value) for number, value in zip(parcel.numbers, values, strict=True)
            ]
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
        retries.update({message.number: message.delay_s for message in observed if message.is_done is False})
        return pack(retries)

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

    def _readable(self, actor: str, parcel: Parcel, retries: dict[int, float | None]) -> tuple[Parcel, list[Any]]:
        """What can be read of a parcel; the rest is to be tried again, which ends among the dead letters."""
        values = {}
        for number, body in zip(parcel.numbers, parcel.bodies, strict=True):
            try:
                values[number] = decode_body(body, parcel.content_type)
            except UNREADABLE as exc:
                identity = message_id(actor, number)
                self.env.logger.error("a message cannot be read", source=self.source, id=identity, error=_described(exc))
                retries[number] = None
        return msgspec.structs.replace(parcel, numbers=list(values)), list(values.values())

    def _report(self, messages: Sequence[ObservedMessage], error: str) -> None:
        ids = ", ".join(message.id for message in messages[:10])
        self.env.logger.error(
            "an observer failed", observer=self.observer_class.__name__, source=self.source, messages=ids, error=error
        )


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
