"""What has come and was not taken yet: bounded, in order, with an end."""

from __future__ import annotations

import asyncio


class Inbox:
    """Messages between the connection that brings them and the program that takes them."""

    def __init__(self, messages_max: int) -> None:
        self._messages: asyncio.Queue[str | bytes | Exception] = asyncio.Queue()  # the end stands behind the last message
        self._room = asyncio.Semaphore(messages_max)
        self._is_over = False

    async def put(self, message: str | bytes) -> None:
        """Add a message, once there is room for it. After the end it is thrown away."""
        await self._room.acquire()
        if self._is_over:
            self._room.release()
        else:
            self._messages.put_nowait(message)

    def end(self, error: Exception) -> None:
        """Let whoever takes messages have `error` after the last one, and ever after."""
        self._is_over = True
        self._messages.put_nowait(error)
        self._room.release()  # who waits for room waits no more

    async def take(self) -> str | bytes:
        """The next message, once there is one."""
        message = await self._messages.get()
        if isinstance(message, Exception):
            self._messages.put_nowait(message)
            raise message
        self._room.release()
        return message
