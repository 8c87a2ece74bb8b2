"""The platform over HTTP: who asks, for what, in which words. Everything else is behind bindings."""

from __future__ import annotations

import re
from typing import Any

from stead import HTTPException, Request, Response, Service, SteadError, route

from .auth import Auth, Session
from .chat import ChatRoom
from .documents import Document
from .emails import sent_mails
from .notifications import OF_ONE, Notifications, room_of

USER = re.compile(r"\w[\w.@-]{0,63}")  # it names actors and stands in what others read


class Api(Service):
    @route("POST", "/login")
    async def login(self, request: Request) -> dict[str, Any]:
        match await request.json():
            case {"user": str(user), "password": str(password)} if USER.fullmatch(user):
                token, expires_at = await self.env.service(Auth).login(user, password)
                return {"token": token, "user": user, "expires_at": expires_at}
        raise HTTPException(400, 'send {"user": "ann", "password": "…"}; a user is 1 to 64 letters, digits, _ . @ -')

    @route("GET", "/me")
    async def whoami(self, request: Request) -> dict[str, Any]:
        return dict(await self._session(request))

    @route("POST", "/logout")
    async def logout(self, request: Request) -> Response:
        await self.env.service(Auth).logout(_token(request))
        return Response(status_code=204)

    @route("PUT", "/documents/{name}")
    async def save_document(self, request: Request, name: str) -> dict[str, Any]:
        session = await self._session(request)
        match await request.json():
            case {"text": str(text), "based_on": int(based_on)}:
                return await self._save(session["user"], name, text, based_on)
        raise HTTPException(400, 'send {"text": "…", "based_on": 3}: the version you edited, 0 for a new document')

    @route("GET", "/documents/{name}")
    async def read_document(self, request: Request, name: str) -> dict[str, Any]:
        await self._session(request)
        return await self.env.actor(Document).get(name).overview()

    @route("POST", "/documents/{name}/upload")
    async def upload_document(self, request: Request, name: str) -> dict[str, Any]:
        """Keep the body as the document's file. It is streamed into the bucket, whatever its size."""
        session = await self._session(request)
        stored = await self.env.DOCUMENTS.put(name, request.stream(), custom_metadata={"author": session["user"]})
        return {"size": stored.size, "etag": stored.etag}

    @route("GET", "/documents/{name}/versions")
    async def document_history(self, request: Request, name: str) -> dict[str, Any]:
        await self._session(request)
        return {"versions": await self.env.actor(Document).get(name).history()}

    @route("GET", "/documents/{name}/versions/{version:int}")
    async def read_document_version(self, request: Request, name: str, version: int) -> dict[str, Any]:
        await self._session(request)
        return await self.env.actor(Document).get(name).read(version)

    @route("POST", "/rooms/{room}/messages")
    async def say(self, request: Request, room: str) -> dict[str, Any]:
        session = await self._session(request)
        match await request.json():
            case {"text": str(text)} if text:
                return {"id": await self._room(room).post(session["user"], text)}
        raise HTTPException(400, 'send {"text": "…"}')

    @route("GET", "/rooms/{room}/messages")
    async def listen(self, request: Request, room: str) -> dict[str, Any]:
        await self._session(request)
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) <= 16):
            raise HTTPException(400, "after is the number of the last message you have seen")
        return {"messages": await self._room(room).messages(int(after))}

    @route("GET", "/rooms/{room}/live")
    async def hear_room(self, request: Request, room: str) -> Response:
        """A socket on which the kept messages come, then each new one."""
        await self._session(request)
        return await self._room(room).connect(request)

    @route("GET", "/notifications")
    async def notifications(self, request: Request) -> dict[str, Any]:
        session = await self._session(request)
        return {"notifications": await self.env.service(Notifications).unread(session["user"])}

    @route("GET", "/notifications/live")
    async def hear_notifications(self, request: Request) -> Response:
        """A socket on which the unread notifications come, then each new one."""
        session = await self._session(request)
        return await room_of(self.env.actor(ChatRoom), session["user"]).connect(request)

    @route("GET", "/outbox")
    async def outbox(self, request: Request) -> dict[str, Any]:
        await self._session(request)
        return {"mails": await sent_mails(self.env)}

    @route("DELETE", "/notifications")
    async def clear_notifications(self, request: Request) -> Response:
        session = await self._session(request)
        await self.env.service(Notifications).mark_read(session["user"])
        return Response(status_code=204)

    async def _save(self, user: str, name: str, text: str, based_on: int) -> dict[str, Any]:
        """Save, then tell the other authors: a save counts even if telling of it fails."""
        document = self.env.actor(Document).get(name)
        version = await document.save(user, text, based_on)
        others = [author for author in await document.authors() if author != user]
        try:
            await self.env.service(Notifications).notify(others, f"{user} saved version {version} of {name}")
        except SteadError as error:
            self.env.logger.warn("not everybody heard of a new version", document=name, version=version, error=str(error))
        return {"version": version}

    def _room(self, name: str) -> ChatRoom:
        """The room of this name, which anybody who has a session may enter."""
        if name.startswith(OF_ONE):
            raise HTTPException(404, f"no room's name begins with {OF_ONE}")
        return self.env.actor(ChatRoom).get(name)

    async def _session(self, request: Request) -> Session:
        return await self.env.service(Auth).session(_token(request))


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "log in, then send the header Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})
    return token
