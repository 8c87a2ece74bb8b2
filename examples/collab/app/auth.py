"""Sessions. A token is the unique id of a session's actor: nobody can guess it, and there is no table of tokens to search."""

from __future__ import annotations

import hmac
import os
from datetime import timedelta
from typing import TypedDict

from stead import Actor, AlarmInfo, HTTPException, Invalid, Service, durable, reads

SESSION_TTL = timedelta(hours=8)
TEAM_PASSWORD = os.environ.get("TEAM_PASSWORD", "open sesame")


class Session(TypedDict):
    user: str
    expires_at: int


class UserSession(Actor):
    """One login of one user. Its alarm ends it, and then nothing of it is left."""

    user: str = durable("")

    async def open(self, user: str) -> int:
        """Begin, and say when the session ends, in ms since 1970."""
        self.user = user
        await self.storage.set_alarm(SESSION_TTL)
        expires_at = await self.storage.get_alarm()
        assert expires_at is not None
        return expires_at

    @reads
    async def show(self) -> Session | None:
        """Whose session it is and when it ends; None if it never began or has ended."""
        expires_at = await self.storage.get_alarm()
        return Session(user=self.user, expires_at=expires_at) if self.user and expires_at is not None else None

    async def close(self) -> None:
        await self.storage.delete_all()

    async def alarm(self, alarm: AlarmInfo) -> None:
        await self.close()


class Auth(Service):
    """Who is who. Private: only other units can call it."""

    async def login(self, user: str, password: str) -> tuple[str, int]:
        """A new session's token and its end. Raises 401 for a wrong password."""
        if not hmac.compare_digest(password.encode(), TEAM_PASSWORD.encode()):
            raise HTTPException(401, "wrong password")
        sessions = self.env.actor(UserSession)
        token = sessions.unique_id()
        return str(token), await sessions.get(token).open(user)

    async def session(self, token: str) -> Session:
        """The session of a token. Raises 401 for one that never was or is over."""
        sessions = self.env.actor(UserSession)
        try:
            found = await sessions.get(sessions.id_from_string(token)).show()
        except Invalid:  # no id, or one of something else than a session
            found = None
        if found is None:
            raise HTTPException(401, "no such session; log in again", {"www-authenticate": "Bearer"})
        return found

    async def logout(self, token: str) -> None:
        await self.session(token)
        sessions = self.env.actor(UserSession)
        await sessions.get(sessions.id_from_string(token)).close()
