"""Mails: jobs of a queue, sent by an observer."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from stead import Actor, Message, Observer, durable, reads

try:
    import aiosmtplib
except ImportError:  # then there is no mail server to speak to: see SMTP_URL
    aiosmtplib = None  # type: ignore[assignment]

KEPT_MAX = 100
SENDER = "platform@example.com"


class EmailSender(Observer):
    """Sends what waits in the queue `email-jobs`. A failure is tried again, and kept as a dead letter in the end.

    A crash between sending and acknowledging sends again, with the same Message-ID, by which mail servers tell.
    """

    async def process(self, message: Message) -> None:
        if self.env.SMTP_URL:
            await self._send(message)
        await self.env.actor(Outbox).get("all").with_idempotency_key(message.id).add(message.body)

    async def _send(self, message: Message) -> None:
        if aiosmtplib is None:
            raise RuntimeError("SMTP_URL is set, and aiosmtplib is not installed: pip install aiosmtplib")
        server = urlsplit(self.env.SMTP_URL)
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = SENDER, f"{message.body['to']}@example.com", "News"
        mail["Message-ID"] = f"<{message.id}@example.com>"
        mail.set_content(message.body["text"])
        await aiosmtplib.send(mail, hostname=server.hostname, port=server.port, start_tls=None)


class Outbox(Actor):
    """The mails that were sent, the last ones."""

    mails: list[dict[str, Any]] = durable(factory=list)

    async def add(self, mail: dict[str, Any]) -> None:
        self.mails.append(mail)
        del self.mails[:-KEPT_MAX]

    @reads
    async def show(self) -> list[dict[str, Any]]:
        return self.mails
