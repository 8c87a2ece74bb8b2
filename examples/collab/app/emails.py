"""Mails: jobs of a queue, sent by an observer."""

from __future__ import annotations

import os
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from stead import Env, Message, Observer

try:
    import aiosmtplib
except ImportError:  # then there is no mail server to speak to: see SMTP_URL
    aiosmtplib = None  # type: ignore[assignment]

SENDER = "platform@example.com"
SENT = "mail:"  # begins the keys of mails that were sent
KEPT_S = 24 * 3600


class EmailSender(Observer):
    """Sends what waits in the queue `email-jobs`. A failure is tried again, and kept as a dead letter in the end.

    A crash between sending and acknowledging sends again, with the same Message-ID, by which mail servers tell.
    """

    async def process(self, message: Message) -> None:
        if url := os.environ.get("SMTP_URL"):
            await _send(url, message)
        key = f"{SENT}{message.timestamp:%Y-%m-%dT%H:%M:%S.%f} {message.id}"  # the same when it is delivered again
        await self.env.mem.put(key, message.body, expiration_ttl=KEPT_S)


async def sent_mails(env: Env) -> list[dict[str, Any]]:
    """The mails of the last day, the first thousand, in the order in which they were asked for."""
    page = await env.mem.list(SENT)
    mails = await env.mem.get([key.name for key in page.keys], "json")
    return [mail for mail in mails.values() if mail is not None]


async def _send(url: str, message: Message) -> None:
    if aiosmtplib is None:
        raise RuntimeError("SMTP_URL is set, and aiosmtplib is not installed: pip install aiosmtplib")
    server = urlsplit(url)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, f"{message.body['to']}@example.com", "News"
    mail["Message-ID"] = f"<{message.id}@example.com>"
    mail.set_content(message.body["text"])
    await aiosmtplib.send(mail, hostname=server.hostname, port=server.port, start_tls=None)
