"""Mails reach a real SMTP server: on loopback, in the event loop of the test."""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from stead.clock import SystemClock, sleep
from stead.ids import Chance
from stead.node import Node, Settings, load_application
from stead.storage.memory import MemoryEngine, MemoryStore

LIMIT_S = 60.0


class Mailbox:
    """What aiosmtpd hands mails to. The first one is refused for now, as a busy server would."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[Message] = asyncio.Queue()
        self.refused = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if not self.refused:
            self.refused += 1
            return "451 try again later"
        self.mails.put_nowait(message_from_bytes(envelope.content))
        return "250 taken"


def test_a_job_becomes_a_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its text and an id; one that the server would not take is tried again, and the outbox shows it once it is sent."""

    async def work() -> None:
        mailbox = Mailbox()
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        application = load_application(Path(__file__).parents[1])
        node = Node(application, MemoryEngine(MemoryStore()), Settings(data=tmp_path), SystemClock(), Chance())
        await node.start()
        try:
            await node.env.EMAIL_JOBS.send({"to": "ann", "text": "bob saved version 2 of plan"})
            mail = await mailbox.mails.get()
            assert (mail["To"], mail["Message-ID"]) == ("ann@example.com", "<email-jobs/0-1@example.com>")
            assert mail.get_payload() == "bob saved version 2 of plan\r\n" and mailbox.refused == 1
            while not (await node.env.mem.list("mail:")).keys:
                await sleep(0.01)
        finally:
            await node.close()
            server.close()
            await server.wait_closed()

    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work()

    asyncio.run(bounded())
