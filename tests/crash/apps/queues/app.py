"""Messages over two queues, one taken message by message and one batch by batch, into tallies that count what they got.

A body says to which tally it goes and what its observer makes of it: `good` ones are taken, `late` ones at the second attempt only,
`poison` never. A tally counts a message once however often it is handed over, and counts twice what was put into a queue twice.
"""

from __future__ import annotations

from typing import Any

from stead import Actor, Batch, Message, Observer, Request, Service, reads, route

LETTERS_MAX = 100_000  # more than a whole run makes


class Producer(Actor):
    async def send(self, group: str, bodies: list[dict[str, str]]) -> None:
        """Note the group and send what it has, in one turn: the first message to the one queue, the others to the other."""
        await self.storage.put(group, len(bodies))
        await self.env.SINGLES.send(bodies[0])
        await self.env.BATCHES.send_batch(bodies[1:])

    @reads
    async def groups(self) -> list[str]:
        return list(await self.storage.list())


class Tally(Actor):
    async def take(self, message: str) -> None:
        await self.storage.put(message, await self.storage.get(message, 0) + 1)

    @reads
    async def counts(self) -> dict[str, int]:
        return await self.storage.list()


class SingleTaker(Observer):
    async def process(self, message: Message) -> None:
        if is_refused(message):
            raise ValueError(f"{message.body['id']} is not taken")
        await take(self.env, message)


class BatchTaker(Observer):
    async def process_batch(self, batch: Batch) -> None:
        for message in batch.messages:
            if is_refused(message):
                message.retry()
            else:
                await take(self.env, message)


def is_refused(message: Message) -> bool:
    kind = message.body["kind"]
    return bool(kind == "poison" or (kind == "late" and message.attempts == 1))


async def take(env: Any, message: Message) -> None:
    await env.TALLY.get(message.body["to"]).with_idempotency_key(message.id).take(message.body["id"])


class Api(Service):
    @route("POST", "/singles")
    async def send(self, request: Request) -> dict[str, int]:
        (body,) = await request.json()
        await self.env.SINGLES.send(body)
        return {"sent": 1}

    @route("POST", "/batches")
    async def send_batch(self, request: Request) -> dict[str, int]:
        bodies = await request.json()
        await self.env.BATCHES.send_batch(bodies)
        return {"sent": len(bodies)}

    @route("POST", "/producers/{name}/{group}")
    async def produce(self, request: Request, name: str, group: str) -> dict[str, int]:
        bodies = await request.json()
        await self.env.actor(Producer).get(name).send(group, bodies)
        return {"sent": len(bodies)}

    @route("GET", "/producers/{name}")
    async def groups(self, request: Request, name: str) -> list[str]:
        return await self.env.actor(Producer).get(name).groups()

    @route("GET", "/tallies/{name}")
    async def counts(self, request: Request, name: str) -> dict[str, int]:
        return await self.env.actor(Tally).get(name).counts()

    @route("GET", "/letters/singles")
    async def dead_singles(self, request: Request) -> list[str]:
        return [letter.value()["id"] for letter in await self.env.SINGLES.peek(LETTERS_MAX, dead=True)]

    @route("GET", "/letters/batches")
    async def dead_batches(self, request: Request) -> list[str]:
        return [letter.value()["id"] for letter in await self.env.BURIED.peek(LETTERS_MAX)]
