"""Queues whose messages are sent by a service and dealt with by an observer, each in batches of one size; a path starts it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from stead import Batch, Observer, Request, Service, route
from stead.clock import sleep

BODY = {"to": "ann@example.com", "subject": "Thank you", "order": 12345, "lines": ["tea", "cup"]}


class Sink(Observer):
    """Reads what it gets, and counts it."""

    seen: ClassVar[int] = 0
    expected: ClassVar[int] = 0
    all_seen: ClassVar[asyncio.Event] = asyncio.Event()

    async def process_batch(self, batch: Batch) -> None:
        Sink.seen += sum(message.body["order"] == BODY["order"] for message in batch.messages)
        if Sink.seen >= Sink.expected:
            Sink.all_seen.set()


class Web(Service):
    @route("GET", "/")
    async def hello(self, request: Request) -> str:
        return "hello"

    @route("POST", "/send/{clients:int}/{batch:int}/{rounds:int}")
    async def send(self, request: Request, clients: int, batch: int, rounds: int) -> dict[str, Any]:
        """Send while nobody gets anything."""
        queue = self._queue(batch)
        await queue.pause()

        async def client() -> None:
            for _ in range(rounds):
                await queue.send_batch([BODY] * batch)

        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
        return {"messages": clients * batch * rounds, "seconds": time.perf_counter() - began_s}

    @route("POST", "/deliver/{clients:int}/{batch:int}")
    async def deliver(self, request: Request, clients: int, batch: int) -> dict[str, Any]:
        """Have all that was sent dealt with, until that it was is on the disk. The observer has as many `clients` at a time."""
        queue = self._queue(batch)
        Sink.seen, Sink.expected = 0, (await queue.status()).messages
        Sink.all_seen.clear()
        began_s = time.perf_counter()
        await queue.resume()
        await Sink.all_seen.wait()
        while (await queue.status()).messages:
            await sleep(0)
        return {"messages": Sink.seen, "seconds": time.perf_counter() - began_s}

    def _queue(self, batch: int) -> Any:
        return getattr(self.env, f"JOBS_{batch}")
