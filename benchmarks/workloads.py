"""What is asked: the workloads of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders import HELLO, KV, POSTGRES, SQL
from benchmarks.load import Load

IDS = 1000  # resident actors that a steady workload goes round
CONNECTIONS = 64


@dataclass(frozen=True)
class Steady:
    """The same kind of request for a fixed time."""

    name: str
    title: str
    kind: str
    load: Load

    @property
    def writes(self) -> bool:
        return self.load.method == "POST"


@dataclass(frozen=True)
class Firsts:
    """W5: how fast actors come to life, and the process. Never seen ones by POST, evicted ones by GET after a restart."""

    name: str
    title: str


@dataclass(frozen=True)
class Rooms:
    """W6: sockets that hear each other, and the memory of sockets and actors."""

    name: str
    title: str


@dataclass(frozen=True)
class Growth:
    """W7: W2 and W3 of Stead over more and more, and larger and larger stored actors."""

    name: str
    title: str


@dataclass(frozen=True)
class Queues:
    """W8: messages that are sent, and dealt with."""

    name: str
    title: str


@dataclass(frozen=True)
class Nodes:
    """WPn: W3 on one PostgreSQL, by more and more nodes of Stead."""

    name: str
    title: str
    load: Load


Workload = Steady | Firsts | Rooms | Growth | Queues | Nodes

WORKLOADS: tuple[Workload, ...] = (
    Steady("W1", "GET /, stateless, 64 connections", HELLO, Load("GET", "/", 0, CONNECTIONS)),
    Steady("W2", "GET of 1,000 resident actors, 64 connections", KV, Load("GET", "/kv/w2-", IDS, CONNECTIONS)),
    Steady("W3", "durable POST over 1,000 ids, 64 connections", KV, Load("POST", "/kv/w3-", IDS, CONNECTIONS)),
    Steady("W3c1", "durable POST over 1,000 ids, 1 connection", KV, Load("POST", "/kv/w3c1-", IDS, 1)),
    Steady("W4", "durable POST on one hot id, 64 connections", KV, Load("POST", "/kv/w4-", 1, CONNECTIONS)),
    Steady("W3sql", "durable POST with SQL over 1,000 ids, 64 connections", SQL, Load("POST", "/sql/w3sql-", IDS, CONNECTIONS)),
    Steady("WP", "W3 on PostgreSQL", POSTGRES, Load("POST", "/kv/wp-", IDS, CONNECTIONS)),
    Steady("WPhot", "W4 on PostgreSQL", POSTGRES, Load("POST", "/kv/wphot-", 1, CONNECTIONS)),
    Nodes("WPn", "W3 on PostgreSQL, by several nodes on the one core", Load("POST", "/kv/wpn-", IDS, CONNECTIONS)),
    Firsts("W5", "first requests: actors never seen, evicted ones; process start to first answer"),
    Rooms("W6", "rooms: deliveries to 100 sockets, echo, memory of sockets and actors"),
    Growth("W7", "growth of W2 and W3: stored actors, size of an actor"),
    Queues("W8", "queues: durable sends, acknowledged deliveries"),
)
TITLES = {workload.name: workload.title for workload in WORKLOADS}
