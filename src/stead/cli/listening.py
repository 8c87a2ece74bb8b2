"""The socket that a server listens on."""

from __future__ import annotations

import errno
import socket

from stead.cli.console import CommandFailed

BACKLOG = 2048  # connections that wait while the server restarts or is busy


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A socket that listens on the address; processes may share one, and connections go to any of them.

    Raises `CommandFailed` if it is taken or not this machine's.
    """
    listener = _bind(host, port, is_shared=is_shared)
    listener.listen(BACKLOG)
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the address for processes that are to share it. Raises as `listen` does."""
    _bind(host, port, is_shared=False).close()  # else one that another server shares among its processes would seem free
    return _bind(host, port, is_shared=True)


def _bind(host: str, port: int, *, is_shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as exc:
        raise CommandFailed(
            f"host {host!r} is not known: {exc.strerror}", "give an address of this machine, such as 127.0.0.1"
        ) from exc
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if is_shared else socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise _refused(host, port, exc) from exc
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The address to show and to open, with the port that the socket really has."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refused(host: str, port: int, exc: OSError) -> CommandFailed:
    if exc.errno == errno.EADDRINUSE:
        return CommandFailed(
            f"port {port} on {host} is taken", "stop the other server, or give another port: --port 0 takes a free one"
        )
    if exc.errno == errno.EACCES:
        return CommandFailed(
            f"port {port} is not open to this user", "ports from 1024 up are; put a proxy before it for the others"
        )
    return CommandFailed(f"cannot listen on {host} port {port}: {exc.strerror}", "give an address of this machine with --host")
