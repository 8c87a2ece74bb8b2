"""The hooks of an actor's sockets, each run by the event that it is for."""

from __future__ import annotations

from collections.abc import Collection
from inspect import isawaitable

from starlette.types import Message

from stead.api import Actor, Request
from stead.errors import Invalid
from stead.events import SocketClosed, SocketEvent, SocketFailed, SocketMessage, SocketOpened
from stead.runtime.responses import make_request
from stead.runtime.room import Room
from stead.runtime.sockets import RoomSocket

TAGS_MAX = 10  # of one socket, beside its id
TAG_CHARS_MAX = 256


async def run_hook(actor: Actor, room: Room | None, event: SocketEvent) -> None:
    """Run the hook of an event, unless its connection lives on in another room."""
    inbound = None if room is None else room.connections.get(event.socket)
    if room is None or inbound is None:
        return
    socket = inbound.socket
    match event:
        case SocketMessage(message=message):
            if not socket.sealed.is_closing:  # else the actor wanted to hear no more of it
                await actor.on_message(socket, message)
        case SocketOpened(scope=scope):
            await _connect(actor, room, socket, make_request(scope, _no_body))
        case SocketClosed(code=code, reason=reason):
            await actor.on_close(socket, code, reason)
        case SocketFailed(error=error):
            await actor.on_error(socket, error)


async def _connect(actor: Actor, room: Room, socket: RoomSocket, request: Request) -> None:
    tags = actor.connection_tags(socket, request)
    if isawaitable(tags):
        tags = await tags
    socket.tags = _with_id(tags, socket.id, f"{type(actor).__name__}.connection_tags()")
    room.list(socket)
    try:
        await actor.on_connect(socket, request)
    except BaseException:
        room.unlist(socket)  # at once: the turns until it is closed must not count it
        raise


def _with_id(tags: Collection[str], id: str, where: str) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Collection):
        raise Invalid(f"{where} must return a list of str, not {type(tags).__name__}")
    if len(tags) > TAGS_MAX:
        raise Invalid(f"{where} returned {len(tags)} tags; a socket may have {TAGS_MAX}")
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= TAG_CHARS_MAX:
            raise Invalid(f"{where} returned the tag {str(tag)[:80]!r}; a tag is text of 1 to {TAG_CHARS_MAX} characters")
    return tuple(dict.fromkeys([*tags, id]))


async def _no_body() -> Message:  # noqa: RUF029 - ASGI's receive
    return {"type": "http.request", "body": b"", "more_body": False}
