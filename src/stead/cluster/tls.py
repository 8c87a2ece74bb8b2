"""Mutual TLS for channels: both sides show a certificate that the cluster's own authority signed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial

import msgspec

from stead import clock
from stead.cluster.refusals import Refusals
from stead.errors import Invalid
from stead.runtime.tasks import Tasks

HANDSHAKE_S = 3.0  # before the channel's own time begins
ACCEPT_RETRY_S = 0.5  # after an accept that failed
HANDSHAKES_MAX = 64  # under way; the oldest makes room for the next


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files: this node's certificate and key, and the certificates of who signs nodes."""

    certificate: str
    key: str
    authority: str


def server_tls(files: TlsFiles) -> ssl.SSLContext:
    """For who is dialled. Raises `Invalid` for files that cannot be used."""
    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_tls(files: TlsFiles) -> ssl.SSLContext:
    """For who dials. The authority signs nodes only, so its signature says enough; names of hosts are not looked at."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


class SecureDoor:
    """A listening socket on which everyone has to show a certificate; who does not costs a line in the log.

    asyncio's server would do the handshakes too, but it says nothing of those that fail and counts nobody.
    """

    def __init__(self, listening: socket.socket, context: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listening = listening
        self._context = context
        self._protocol = protocol
        self._tasks = Tasks()
        self._refusals = Refusals()
        self._handshakes: dict[asyncio.Task[None], None] = {}  # oldest first
        self._tasks.start(self._accept())

    async def close(self) -> None:
        """Let nobody in any more."""
        await self._tasks.close()
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listening)
            except OSError as exc:  # out of file descriptors, for instance
                self._refusals.tell("anyone", str(exc))
                await clock.sleep(ACCEPT_RETRY_S)
                continue
            if len(self._handshakes) >= HANDSHAKES_MAX:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            handshake = self._tasks.start(self._shake_hands(connection, f"{peer[0]}:{peer[1]}"))
            self._handshakes[handshake] = None
            handshake.add_done_callback(partial(self._shaken, connection))

    async def _shake_hands(self, connection: socket.socket, peer: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as exc:
            self._refusals.tell(peer, f"no mutual TLS with it: {exc}")
            connection.close()

    def _shaken(self, connection: socket.socket, handshake: asyncio.Task[None]) -> None:
        self._handshakes.pop(handshake, None)
        if handshake.cancelled():
            connection.close()


def _context(side: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as exc:
        raise Invalid(
            f"the certificates for channels cannot be used ({files.certificate}, {files.key}, {files.authority}): {exc}"
        ) from exc
    return context
