"""Counters, clocks and jobs, for what a cluster does under faults."""

from __future__ import annotations

from datetime import timedelta

from stead import Actor, AlarmInfo, Message, Observer, Request, Response, Service, durable, reads, route
from stead.clock import sleep


class Counter(Actor):
    value: int = durable(0)

    async def add(self, pause_s: float = 0.0) -> int:
        await sleep(pause_s)
        self.value += 1
        return self.value

    @reads
    async def current(self, pause_s: float = 0.0) -> int:
        value = self.value
        await sleep(pause_s)
        return value

    async def ring(self, delay_s: float) -> None:
        await self.alarms.set("ring", timedelta(seconds=delay_s))

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.value += 1


class Extra(Counter):
    """A unit that not every version has."""


class Worker(Observer):
    async def process(self, message: Message) -> None:
        await self.env.COUNTER.get(str(message.body)).with_idempotency_key(message.id).add()


class Api(Service):
    @route("GET", "/{unit}/{name}")
    async def current(self, request: Request, unit: str, name: str) -> str:
        return str(await self._counter(unit, name).current(_pause_s(request)))

    @route("POST", "/{unit}/{name}")
    async def add(self, request: Request, unit: str, name: str) -> str:
        return str(await self._counter(unit, name).add(_pause_s(request)))

    @route("POST", "/ring/{unit}/{name}/{delay_s}")
    async def ring(self, request: Request, unit: str, name: str, delay_s: str) -> str:
        await self._counter(unit, name).ring(float(delay_s))
        return "set"

    @route("POST", "/jobs/send/{name}")
    async def send(self, request: Request, name: str) -> str:
        await self.env.JOBS.send(name)
        return "sent"

    @route("GET", "/cached")
    async def cached(self, request: Request) -> Response:
        kept = await self.cache.match(request)
        if kept is not None:
            return kept
        response = Response(b"x" * 200_000, headers={"cache-control": "max-age=60"})
        await self.cache.put(request, response)
        return response

    def _counter(self, unit: str, name: str) -> Counter:
        counter: Counter = getattr(self.env, unit.upper()).get(name)
        return counter


def _pause_s(request: Request) -> float:
    return float(request.query_params.get("pause_s", "0"))
