"""Who is here: users, not sockets.

Each user who has joined is an entry, which is gone when they have left. In between a user is *here* as long as one of their sockets
is open, or the grace period of the last one has not ended: its end is written into the entry, and one alarm waits for the earliest.
So a reload, a second tab and a hibernation are no leave; and a process that died, which heard of no socket's end, finds the users
without a socket when the actor starts again, and gives them the same grace to come back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import msgspec

from stead.api import Actor, AlarmInfo, Request, Socket, on_alarm
from stead.errors import Invalid

_PREFIX = "presence:"
_ALARM = "presence"
_TAG = "presence:"  # and the user: finds a user's sockets, and whose a socket is
USER_CHARS_MAX = 200  # a name is part of a tag


class _Here(msgspec.Struct, array_like=True):
    """A user who has joined. `until_ms`: when they count as gone, unless they come back."""

    since_ms: int
    until_ms: int | None = None


class Presence(Actor):
    """A mixin for actors with sockets that knows who is here.

    `on_join` and `on_leave` run once per user, however many tabs they have, in the turn of the socket or alarm that caused them.
    """

    presence_grace_s: ClassVar[float] = 10.0
    """Seconds after the last socket of a user has closed before they have left."""

    def presence_user(self, socket: Socket, request: Request) -> str:
        """Override to say whose socket this is: sockets of one user count once. By default each socket is a user of its own."""
        return socket.id

    async def on_join(self, user: str) -> None:
        """Override to learn that a user is here who was not."""

    async def on_leave(self, user: str) -> None:
        """Override to learn that a user has left: no socket, and the grace period is over."""

    async def present(self) -> list[str]:
        """The users who are here, in the order they joined."""
        here = await self._all_here()
        return sorted(here, key=lambda user: (here[user].since_ms, user))

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        user = self.presence_user(socket, request)
        if not 0 < len(user) <= USER_CHARS_MAX:
            raise Invalid(f"a user's name must have 1 to {USER_CHARS_MAX} characters, not {len(user)}")
        return [*super().connection_tags(socket, request), _TAG + user]

    async def on_start(self) -> None:
        await super().on_start()
        for user, entry in (await self._all_here()).items():
            if entry.until_ms is None and not self._has_socket(user):
                await self._let_go(user, entry)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        await super().on_connect(socket, request)
        user = _user_of(socket)
        if user is None:
            raise Invalid(f"{type(self).__name__}.connection_tags() must add what super().connection_tags() returns")
        entry = await self._entry(user)
        if entry is None or entry.until_ms is not None:
            await self.storage.put(_PREFIX + user, _Here(self._now_ms() if entry is None else entry.since_ms))
        if entry is None:
            await self.on_join(user)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        await super().on_close(socket, code, reason)
        user = _user_of(socket)
        if user is not None and not self._has_socket(user):
            entry = await self._entry(user)
            if entry is not None:
                await self._let_go(user, entry)

    @on_alarm(_ALARM)
    async def _sweep(self, alarm: AlarmInfo) -> None:
        now_ms = self._now_ms()
        waiting: list[int] = []
        for user, entry in (await self._all_here()).items():
            if entry.until_ms is None:
                continue
            if entry.until_ms > now_ms:
                waiting.append(entry.until_ms)
            else:
                await self.storage.delete(_PREFIX + user)
                await self.on_leave(user)
        if waiting:
            await self.alarms.set(_ALARM, min(waiting))

    async def _let_go(self, user: str, entry: _Here) -> None:
        """Begin a user's grace period."""
        until_ms = self._now_ms() + round(self.presence_grace_s * 1000)
        await self.storage.put(_PREFIX + user, _Here(entry.since_ms, until_ms))
        alarm = await self.alarms.get(_ALARM)
        if alarm is None or alarm.dead or alarm.due_ms > until_ms:
            await self.alarms.set(_ALARM, until_ms)

    def _has_socket(self, user: str) -> bool:
        """Whether one of a user's sockets is open. A client chooses its id, which is a tag, too: that makes it nobody."""
        return any(_user_of(socket) == user for socket in self.sockets(_TAG + user))

    async def _entry(self, user: str) -> _Here | None:
        return await self.storage.get(_PREFIX + user, type=_Here)

    async def _all_here(self) -> dict[str, _Here]:
        entries = await self.storage.list(_PREFIX)
        return {key[len(_PREFIX) :]: msgspec.convert(value, _Here) for key, value in entries.items()}

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)


def _user_of(socket: Socket) -> str | None:
    return next((tag[len(_TAG) :] for tag in socket.tags if tag.startswith(_TAG)), None)
