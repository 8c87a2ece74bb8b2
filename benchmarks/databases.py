"""What requests cost the PostgreSQL beside a server, and the network: processor time, transactions, log, bytes on the wire.

Transactions and log are the server's own counters, exact at any moment: the next transaction's number and the log's position. They
count the heartbeats of nodes too, a few a second. Bytes on the wire are the kernel's count for each open connection (`ss`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.postgres import ask
from benchmarks.report import Report, Run, Shared
from benchmarks.server import Server
from stead.storage.membership import NodeInfo

TITLE = "On PostgreSQL: what a request costs, and who"
COLUMNS = (
    "",
    "µs/req, nodes",
    "µs/req, PostgreSQL",
    "requests a transaction",
    "log bytes/req",
    "bytes/req to and from PostgreSQL",
    "between nodes",
    "crossed",
)
_MARKS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
_OWNED = """
    SELECT n.name, count(*) FROM stead.actors a JOIN stead.nodes n ON n.incarnation = a.owner
    WHERE starts_with(a.id, $1) GROUP BY n.name"""
_SENT = re.compile(r"\bbytes_sent:(\d+)")


@dataclass(frozen=True)
class Reading:
    """Of a server's database, since it began."""

    cpu_s: float
    transactions: int
    log_bytes: int
    database_bytes: int
    channel_bytes: int

    def until(self, later: Reading, crossed: float = 0.0) -> Shared:
        """What was used between two readings."""
        return Shared(
            later.cpu_s - self.cpu_s,
            later.transactions - self.transactions,
            later.log_bytes - self.log_bytes,
            max(0, later.database_bytes - self.database_bytes),
            max(0, later.channel_bytes - self.channel_bytes),
            crossed,
        )


def read(server: Server, channel_ports: Sequence[int] = ()) -> Reading:
    """`channel_ports` are those where nodes listen for each other."""
    [(transactions, log_bytes)] = ask(server.dsn, _MARKS)
    sent = bytes_on_wire([server.store_port])
    return Reading(server.usage(of_store=True).cpu_s, transactions, log_bytes, sent, bytes_on_wire(channel_ports))


def owned(server: Server, prefix: str) -> dict[str, int]:
    """How many of the actors whose ids begin so each node has."""
    return dict(map(tuple, ask(server.dsn, _OWNED, prefix)))


def channel_ports(server: Server) -> list[int]:
    """Where the nodes listen for each other."""
    infos = [msgspec.msgpack.decode(info, type=NodeInfo) for (info,) in ask(server.dsn, "SELECT info FROM stead.nodes")]
    return [int(info.address.rpartition(":")[2]) for info in infos]


def bytes_on_wire(ports: Sequence[int]) -> int:
    """Sent by either side of the open connections to `ports`; 0 where `ss` is not installed."""
    if not ports or shutil.which("ss") is None:
        return 0
    chosen = " or ".join(f"sport = :{port} or dport = :{port}" for port in ports)
    said = subprocess.run(["ss", "-tinH", "state", "established", f"( {chosen} )"], capture_output=True, text=True, check=True)
    return sum(map(int, _SENT.findall(said.stdout)))


def database_rows(report: Report) -> list[Sequence[str]]:
    """A row for each contender, and each number of nodes of Stead, as long as COLUMNS; medians."""
    grouped: dict[str, list[tuple[Run, Shared]]] = {}
    for run in report.runs:
        if run.shared is not None and not run.fault:
            grouped.setdefault(f"{run.workload} {run.variant or run.contender}", []).append((run, run.shared))
    return [(label, *_row(found)) for label, found in grouped.items()]


def _row(found: Sequence[tuple[Run, Shared]]) -> Sequence[str]:
    def each(of: str) -> float:
        return median(float(getattr(shared, of)) / run.requests for run, shared in found)

    nodes = median(1e6 * (run.cpu_s - shared.cpu_s) / run.requests for run, shared in found)
    return (
        f"{nodes:.0f}",
        f"{1e6 * each('cpu_s'):.0f}",
        f"{1 / each('transactions'):.1f}",
        _count(each("log_bytes")),
        _count(each("database_bytes")),
        _count(each("channel_bytes")),
        f"{100 * median(shared.crossed for _, shared in found):.0f} %" if any(shared.crossed for _, shared in found) else "",
    )


def _count(value: float) -> str:
    return "" if not value else f"{value:,.0f}" if value >= 1 else f"{value:.1f}"
