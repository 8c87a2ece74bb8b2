"""Rooms by address: `/parties/:party/:room` on every host, for the actors that are public.

The raw path is divided at its slashes first and each part decoded once, so `a%2Fb` is one room and not `a` with something below.
Slashes in a row count as one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from stead.events import Fetch, Handover
from stead.gateway.edge import Receiver, Wire
from stead.ids import ActorId, named_id

MAIN = "main"  # the party that needs no name
_looks_like_party = re.compile(r"/+part(?:ies|y)(?:/|\Z)").match


class Rooms(Protocol):
    """The runtime, as far as sockets and public actors go."""

    async def visit(self, actor: ActorId, event: Fetch, *, is_handshake: bool) -> Response:
        """The answer of a public actor's before-hook and, if it lets the client in, of the actor: a `Handover` for a handshake."""
        ...

    def admit_socket(self, handover: Handover) -> None:
        """Raise `HTTPException` or `Overloaded` if the actor cannot take another socket now."""
        ...

    def open_socket(self, handover: Handover, wire: Wire) -> Receiver:
        """Give a client that was let in to its actor. Returns who receives what it sends."""
        ...


class Parties:
    """The public actors by address. `rooms` is where all actors are, for sockets that a service hands over."""

    def __init__(self, rooms: Rooms, public: Collection[str]) -> None:
        self.rooms = rooms
        self._public = frozenset(public)
        self._main = MAIN if MAIN in public else next(iter(public)) if len(public) == 1 else None

    def find(self, scope: Scope) -> ActorId | None:
        """The actor at a path; None if these paths are not ours. Raises 404 for a room that cannot be, 400 for a malformed one."""
        path: str = scope["path"]
        if not self._public or _looks_like_party(path) is None:
            return None
        first, *rest = _segments(scope.get("raw_path") or quote(path).encode())
        if first == "parties" and rest:
            party, *rest = rest
            if party not in self._public:
                raise HTTPException(404, f"there is no public actor {party!r}")
        elif first == "party" and self._main is not None:
            party = self._main
        else:
            raise HTTPException(404, f"no party is named in {path}; a room's address reads /parties/:party/:room")
        if not rest:
            raise HTTPException(404, f"no room is named in {path}; a room's address reads /parties/:party/:room")
        return named_id(party, rest[0])


def _segments(raw_path: bytes) -> list[str]:
    try:
        segments = [unquote_to_bytes(segment).decode() for segment in raw_path.split(b"/") if segment]
    except UnicodeDecodeError as exc:
        raise HTTPException(400, "the path is not UTF-8 once its percent-encoding is undone") from exc
    if not {".", ".."}.isdisjoint(segments):
        raise HTTPException(400, "a path with . or .. names no room")
    return segments
