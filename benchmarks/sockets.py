"""Load on WebSockets: one that speaks and many that hear by an own client in C, and sockets that are only open."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.compiling import compile_c
from benchmarks.cores import CLIENT_CORE
from benchmarks.load import LoadFailed, Sample

SOURCE = Path(__file__).with_name("sockets.c")
ANSWER_S = 30.0
_FIGURES = re.compile(r"^figures messages=(\d+) deliveries=(\d+) microseconds=(\d+) p50=(\d+) p99=(\d+)$", re.MULTILINE)
_HANDSHAKE = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class SocketLoad:
    """The client, compiled into `directory`. Raises `LoadFailed` without a C compiler."""

    def __init__(self, directory: Path) -> None:
        binary = compile_c(SOURCE, directory)
        if binary is None:
            raise LoadFailed("the load on sockets is written in C, and there is no C compiler: apt-get install gcc libc6-dev")
        self._binary = binary

    def run(self, port: int, path: str, sockets: int, under_way: int, seconds: int) -> Sample:
        """All sockets hear what one says, each message once and in order, or it raises `LoadFailed`. Counts deliveries."""
        line = ["taskset", "-c", str(CLIENT_CORE), str(self._binary), str(port), path, str(sockets), str(under_way), str(seconds)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadFailed(done.stderr.strip())
        return parse_deliveries(done.stdout)


def parse_deliveries(output: str) -> Sample:
    """The sample in the client's line of figures."""
    match = _FIGURES.search(output)
    if match is None:
        raise LoadFailed(f"the load on sockets printed no figures: {output[-200:]!r}")
    _, deliveries, microseconds, p50, p99 = (int(group) for group in match.groups())
    return Sample(deliveries, microseconds / 1e6, p50 / 1000, p99 / 1000)


@contextmanager
def opened(port: int, paths: Sequence[str]) -> Iterator[None]:
    """A socket on each path, which says and hears nothing."""
    with ExitStack() as stack:
        for path in paths:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), ANSWER_S))
            connection.sendall(_HANDSHAKE.format(path, port).encode())
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 101"):
                raise LoadFailed(f"a handshake was refused: {answer[:100]!r}")
        yield
