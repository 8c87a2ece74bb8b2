"""Where a running server is and how to speak to it: the file `server.json` in its data directory.

It is written when the server is ready and removed when it stops, readable by its owner only, because it holds the token of the
operator's API. A server that was killed leaves it behind: then its process is gone, and the file counts as absent.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from stead.storage.sqlite import is_alive

FILE_NAME = "server.json"
TOKEN_BYTES = 32


class ServerAddress(msgspec.Struct, frozen=True):
    """A running server's process, address and token."""

    pid: int
    url: str
    token: str


def write_address(data: Path, address: ServerAddress) -> None:
    partial = data / (FILE_NAME + ".partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(address))
    partial.rename(data / FILE_NAME)


def remove_address(data: Path) -> None:
    (data / FILE_NAME).unlink(missing_ok=True)


def find_server(data: Path) -> ServerAddress | None:
    """The server that runs on this data directory, None if there is none."""
    try:
        address = msgspec.json.decode((data / FILE_NAME).read_bytes(), type=ServerAddress)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return address if is_alive(address.pid) else None
