"""Buckets with an observer that notes what it hears of."""

from __future__ import annotations

from stead import Actor, Message, Observer, Request, Service, durable, reads, route


class Log(Actor):
    """What the watcher heard, by the message's id: repeats are one."""

    heard: dict[str, str] = durable(factory=dict)

    async def note(self, message_id: str, line: str) -> None:
        self.heard[message_id] = line

    @reads
    async def lines(self) -> list[str]:
        return sorted(self.heard.values())


class Watcher(Observer):
    async def process(self, message: Message) -> None:
        event = message.body
        await self.env.LOG.get("all").note(message.id, f"{event['action']} {event['object']['key']} {event['object']['size']}")


class Api(Service):
    @route("GET", "/heard")
    async def heard(self, request: Request) -> list[str]:
        return list(await self.env.LOG.get("all").lines())
