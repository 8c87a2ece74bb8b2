"""A PgBouncer for tests, before a server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from stead.clock import SystemClock
from tests.lacking import lack
from tests.postgres.server import LIMIT_S, NOBODY, POLL_S, free_port, new_place

CONFIG = """
[databases]
postgres = host=127.0.0.1 port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = 1
logfile = {place}/log
"""


@contextmanager
def pooler(postgres: str, mode: str = "transaction", size: int = 3) -> Iterator[str]:
    """The address of a PgBouncer before the server, with `size` connections to it. In CI its absence is a failure."""
    path = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        lack("pgbouncer is not installed")
    listen = free_port()
    with new_place() as place:
        config = place / "pgbouncer.ini"
        config.write_text(CONFIG.format(port=urlsplit(postgres).port, listen=listen, place=place, mode=mode, size=size))
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        process = subprocess.Popen([path, "-q", str(config)], cwd=place, **user)  # type: ignore[call-overload]
        try:
            wait_listening(place)
            yield f"postgresql://postgres@127.0.0.1:{listen}/postgres"
        finally:
            process.kill()
            process.wait(LIMIT_S)


def wait_listening(place: Path) -> None:
    until_s = SystemClock().elapsed_s() + LIMIT_S
    while not (place / "log").exists() or "listening on" not in (place / "log").read_text():
        assert SystemClock().elapsed_s() < until_s, "pgbouncer does not start"
        Event().wait(POLL_S)
