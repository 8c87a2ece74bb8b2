"""`Peer`: a client of an actor without a network, for what a socket does between the edge and the actor's code.

It stands where an edge does: what the actor sends is there at the moment in which it leaves the actor, and what the peer sends is
with the runtime at once, unless that has paused it. For all that bytes and networks do there is `TestApp.connect`.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from urllib.parse import quote

from stead.events import Frame, Handover
from stead.node import Node
from stead.runtime.stubs import Stub
from stead.testing.app import TestApp


class Peer:
    """A connection to the actor behind `stub`, at the one node of an application or at a node. Raises what refuses a handshake.

    `received` has the messages, as they came; `closing` is the code and the reason with which the actor's side ended it.
    `read_ahead` is how many messages more the runtime gets after it has paused the connection, as an edge had read them already.
    """

    read_ahead = 0

    def __init__(self, at: TestApp | Node, stub: Stub, id: str | None = None, query: str = "", path: str = "/") -> None:
        self.received: list[str | bytes] = []
        self.closing: tuple[int, str] | None = None
        self.is_paused = False
        self._ahead = 0  # got since it was paused
        self._unsent: deque[str | bytes] = deque()
        self._goodbye: tuple[int, str] | None = None  # behind what is unsent
        self.is_gone = False
        if id is not None:
            query = f"_pk={quote(id, safe='')}" + (f"&{query}" if query else "")
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade")],
        }
        handover = Handover(stub.id, scope)
        runtime = (at._process.node if isinstance(at, TestApp) else at)._runtime
        runtime.admit_socket(handover)
        self._receiver = runtime.open_socket(handover, self)

    # -- what a client does --------------------------------------------------------------------------------------------------------

    def post(self, message: str | bytes) -> None:
        """Send a message."""
        self._unsent.append(message)
        self._flush()

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, behind what was sent."""
        self._goodbye = (code, reason)
        self._flush()

    def vanish(self, error: Exception | None = None) -> None:
        """Lose the connection without a goodbye, and what it has not taken yet."""
        self._unsent.clear()
        self._end(1006, "", error)

    @property
    def unsent(self) -> int:
        """How many messages wait because the connection is paused."""
        return len(self._unsent)

    # -- the wire ------------------------------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        if not self.is_gone and self.closing is None:
            self.received.append(frame.message)

    def close(self, code: int, reason: str) -> None:
        if not self.is_gone and self.closing is None:
            self.closing = (code, reason)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._ahead = 0
        self._flush()

    def _flush(self) -> None:
        while self._unsent and not self.is_gone and (not self.is_paused or self._ahead < self.read_ahead):
            self._ahead += self.is_paused
            self._receiver.message(self._unsent.popleft())
        if self._goodbye is not None and not self._unsent and not self.is_paused:
            self._end(*self._goodbye, None)

    def _end(self, code: int, reason: str, error: Exception | None) -> None:
        if not self.is_gone:
            self.is_gone = True
            self._receiver.closed(code, reason, error)
