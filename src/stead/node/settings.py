"""How a node is run, as opposed to what it runs: addresses, the data directory, the bounds of memory and time, and its cluster.

Every field is a flag and a `STEAD_…` variable of the environment: `Settings` of `stead serve` and `stead dev`, `ClusterSettings` of
`stead serve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


SQLITE = "sqlite"  # the engine in the data directory
WORKERS_MAX = 64
_ENGINE_SCHEMES = ("postgres://", "postgresql://")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_ADDRESS_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


@dataclass(frozen=True)
class ClusterSettings:
    """How a node takes part in a cluster. With the engine "sqlite" and one worker there is none, and nothing else here matters.

    Checked when made: raises `Invalid` naming the setting that cannot be.
    """

    engine: str = SQLITE  # or postgres://user:password@host/database, which all nodes share
    node_name: str = ""  # empty: the machine's name, or the worker's
    listen: str = "127.0.0.1:0"  # where other nodes reach this one
    address: str = ""  # what they are told to dial; empty: where it listens
    key_file: Path | None = None  # of the key that all nodes share
    cert: Path | None = None  # of this node, for mutual TLS, with its key and the authority that signed everyone's
    cert_key: Path | None = None
    ca: Path | None = None
    region: str = ""
    labels: str = ""  # k=v,k=v
    lease_s: float = 6.0  # how long the actors of a node that died are nobody's
    workers: int = 1  # nodes on this machine behind one port

    def __post_init__(self) -> None:
        if self.engine != SQLITE and not self.engine.startswith(_ENGINE_SCHEMES):
            raise Invalid(f"the engine is {SQLITE!r} or an address such as postgres://user:password@host/database")
        if self.node_name and not _NAME_PATTERN.fullmatch(self.node_name):
            raise Invalid(f"node name {self.node_name!r} is not 1 to 64 letters, digits, '.', '_' and '-'")
        for name, value in (("cluster listen", self.listen), ("cluster address", self.address)):
            found = _ADDRESS_PATTERN.fullmatch(value)
            if (value or name == "cluster listen") and (found is None or int(found[2]) > PORT_MAX):
                raise Invalid(f"{name} {value!r} is no address; write HOST:PORT")
        given = [path for path in (self.cert, self.cert_key, self.ca) if path is not None]
        if given and len(given) != 3:
            raise Invalid("mutual TLS between nodes needs a certificate, its key and the authority's certificate: give all three")
        for path in (*given, self.key_file):
            if path is not None and not path.is_file():
                raise Invalid(f"{path} is no file")
        if not 1 <= self.lease_s <= 3600:
            raise Invalid(f"the lease must be 1 to 3600 s, not {self.lease_s:g}")
        if not 1 <= self.workers <= WORKERS_MAX:
            raise Invalid(f"workers must be 1 to {WORKERS_MAX}, not {self.workers}")
        self.label_map()

    @property
    def is_alone(self) -> bool:
        """Whether there is one node only."""
        return self.workers == 1 and not self.is_shared

    @property
    def is_shared(self) -> bool:
        """Whether several nodes share the engine."""
        return self.engine != SQLITE

    def label_map(self) -> Mapping[str, str]:
        """The labels by name. Raises `Invalid` for text that is not k=v,k=v."""
        pairs = [part.partition("=") for part in self.labels.split(",") if part.strip()]
        if not all(separator and name.strip() for name, separator, _ in pairs):
            raise Invalid(f"labels {self.labels!r} do not read name=value,name=value")
        return {name.strip(): value.strip() for name, _, value in pairs}
