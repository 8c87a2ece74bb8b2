"""Where connections begin and are counted: a request that asks for a WebSocket comes in, and the application is called with it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Scope
from starlette.websockets import WebSocketDisconnect

from stead.gateway.edge.connection import OK, RESTARTING, Connection, SocketLimits
from stead.gateway.edge.heartbeat import Heartbeat
from stead.gateway.edge.session import Disconnected, Session

BUG = 1011
_log = logging.getLogger("stead.gateway")


class Edge:
    """Serves an ASGI application's WebSockets. It reads no HTTP: a server hands it the transport when the request's head is read.

    `connections` and `tasks` are what is open and what runs; whoever stops the server waits for them.
    """

    def __init__(self, app: ASGIApp, limits: SocketLimits = SocketLimits()) -> None:
        self._app = app
        self._limits = limits
        self._heartbeat = Heartbeat(limits.ping_s, limits.pong_s)
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def upgrade(self, transport: asyncio.Transport, scope: Scope, method: str = "GET", early: bytes = b"") -> Connection:
        """Take over a transport on which a request has come: `scope` is the "websocket" scope of ASGI for it.

        `early` is what came behind the request. The connection must be the transport's protocol from now on; it is set here.
        """
        connection = Connection(transport, self._limits, self._heartbeat, self.connections.discard)
        self.connections.add(connection)
        transport.set_protocol(connection)
        session = Session(connection, scope, method)
        task = asyncio.get_running_loop().create_task(self._run(session))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if early:
            connection.data_received(early)
        return connection

    async def _run(self, session: Session) -> None:
        """The application on one handshake: to its end, or to where the connection is taken over."""
        try:
            await self._app(session.scope, session.receive, session.send)
        except asyncio.CancelledError:
            session.finish(RESTARTING)
            raise
        except (Disconnected, WebSocketDisconnect):  # what an application may leave to its server
            session.finish(OK)
        except Exception:  # noqa: BLE001 - application code was called
            _log.exception("a WebSocket failed: %s", session.scope["path"])
            session.finish(BUG)
        else:
            session.finish(OK)
