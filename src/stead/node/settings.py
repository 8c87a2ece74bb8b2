"""How a node is run, as opposed to what it runs: addresses, the data directory and the bounds of memory and time.

Every field is a flag of `stead serve` and `stead dev`, and a `STEAD_…` variable of the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from stead.errors import Invalid

MIB = 1024 * 1024
PORT_MAX = 65_535
_DOMAIN_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Settings:
    """Checked when made: raises `Invalid` naming the setting that cannot be."""

    host: str = "127.0.0.1"
    port: int = 8700  # 0 takes any free one
    data: Path = field(default_factory=lambda: Path(".stead"))
    blobs: str = ""  # where the bodies of objects are: a directory, or s3://, gs:// or az://; empty: in the data directory
    base_domain: str = "localhost"  # a service with cname "shop" answers at shop.<base_domain>
    body_bytes_max: int = 32 * MIB  # of one HTTP request
    resident_bytes_max: int = 256 * MIB  # of the actors held in memory; the longest unused leave first
    cache_bytes_max: int = 256 * MIB  # of the responses that services keep in `self.cache`; the longest unused leave first
    socket_message_bytes_max: int = 32 * MIB  # of one message from a WebSocket; a longer one closes it with 1009
    socket_buffer_bytes_max: int = 8 * MIB  # sent to a WebSocket and not read by its client; more closes it with 1013
    socket_ping_s: float = 20.0  # of a client's silence, after which it is asked whether it is there
    socket_pong_s: float = 20.0  # for its answer, before its socket is dropped
    shutdown_timeout_s: int = 30  # for requests and turns under way when the node is told to stop
    admin_from_anywhere: bool = False  # the operator's API answers this machine only unless set

    def __post_init__(self) -> None:
        if not self.host or any(character.isspace() for character in self.host):
            raise Invalid(f"host {self.host!r} is no address; give a name or an IP address such as 127.0.0.1")
        if not 0 <= self.port <= PORT_MAX:
            raise Invalid(f"port {self.port} is not between 0 and {PORT_MAX}; 0 takes any free one")
        if not _DOMAIN_PATTERN.fullmatch(self.base_domain):
            raise Invalid(f"base domain {self.base_domain!r} is no domain name; write it in lower case, as in example.com")
        for name, value in vars(self).items():
            if name.endswith(("_max", "_s")) and not 0 < value < float("inf"):
                raise Invalid(f"{name} must be more than 0, not {value}")
        if self.data.exists() and not self.data.is_dir():
            raise Invalid(f"data directory {self.data} is a file; give a directory with --data")
