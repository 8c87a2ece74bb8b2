"""Mails: jobs of a queue, sent by an observer."""

from __future__ import annotations

from typing import Any

from stead import Actor, Message, Observer, durable, reads

KEPT_MAX = 100


class EmailSender(Observer):
    """Sends what waits in the queue `email-jobs`. A failure is tried again, and kept as a dead letter in the end."""

    async def process(self, message: Message) -> None:
        await self.env.actor(Outbox).get("all").with_idempotency_key(message.id).add(message.body)


class Outbox(Actor):
    """The mails that were sent, the last ones."""

    mails: list[dict[str, Any]] = durable(factory=list)

    async def add(self, mail: dict[str, Any]) -> None:
        self.mails.append(mail)
        del self.mails[:-KEPT_MAX]

    @reads
    async def show(self) -> list[dict[str, Any]]:
        return self.mails
