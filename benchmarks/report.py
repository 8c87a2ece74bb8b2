"""Everything one benchmark found, as it is kept in JSON: each run by itself, never only its summary."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Shared(msgspec.Struct, frozen=True):
    """What a run took of a database that nodes share, and of the network."""

    cpu_s: float  # of the database's processes, a part of the run's
    transactions: int
    log_bytes: int
    database_bytes: int  # on connections to the database, both ways
    channel_bytes: int  # on connections between nodes, both ways
    crossed: float  # the share of requests that came to another node than had their actor


class Run(msgspec.Struct, frozen=True):
    """One contender under one workload, once. A run with a `fault` does not count."""

    workload: str
    variant: str  # tells the parts of a workload apart; "" if it has one
    contender: str
    repeat: int
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float = 0.0  # of all processes of the server
    memory_peak_bytes: int = 0  # since the server began
    written_bytes: int = 0
    fault: str = ""
    shared: Shared | None = None  # where the database is a PostgreSQL

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


class Proof(msgspec.Struct, frozen=True):
    """That writes were durable: a short load on a traced server, which is then killed and asked again. None: no strace here."""

    workload: str
    contender: str
    requests: int
    flushes: int | None
    fault: str = ""


class Footprint(msgspec.Struct, frozen=True):
    """What `count` more of an item took of the server's resident memory, all together."""

    workload: str
    contender: str
    item: str
    count: int
    grown_bytes: int

    @property
    def bytes_each(self) -> float:
        return self.grown_bytes / self.count


class Limits(msgspec.Struct, frozen=True):
    """What the machine allows at most, per second. None: could not be measured here."""

    appends: float  # each followed by fdatasync, to a file that grows: its length has to be made durable, too
    rewrites: float  # the same to a file of fixed length, as a write-ahead log that is used again
    wrk: float | None  # answers that wrk takes from the smallest possible server
    client: float | None  # the same for the client of W5
    sockets: float | None = None  # deliveries that W6's client hears from the smallest possible room


class Report(msgspec.Struct):
    """A whole benchmark."""

    made_at: str
    machine: dict[str, str]
    options: dict[str, int]
    versions: dict[str, str] = {}
    limits: Limits | None = None
    runs: list[Run] = []
    proofs: list[Proof] = []
    footprints: list[Footprint] = []
    notes: list[str] = []  # what was skipped, and why

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Report:
        return msgspec.json.decode(path.read_bytes(), type=Report)
