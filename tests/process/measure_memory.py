"""What actors cost in memory: `python tests/process/measure_memory.py`, a table of a real server's memory per actor.

Each line is a server of its own on an empty data directory. It is filled with some actors first, so that what it allocates once is
not counted; then with more, and the growth of the process's resident memory (VmRSS) is divided by their number. Resident actors are
idle and in memory, evicted ones were pushed out by `--memory-max-mib 1`. What an evicted actor still costs is a share of SQLite's
page caches, which are bounded: more actors share the same.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stead.admin import ServerAddress, find_server

APPLICATION = Path(__file__).with_name("many")
FILL_ACTORS = 1000  # in one request
LIMIT_S = 120.0
ROOM_MIB = 4096  # so much that nobody is evicted


@dataclass(frozen=True)
class Case:
    """Actors of a unit, so many before the measurement and so many in it."""

    name: str
    unit: str
    memory_max_mib: int
    before: int
    actors: int


@dataclass(frozen=True)
class Measured:
    case: str
    actors: int
    residents: int  # at the end, those before the measurement included
    rss_before_kib: int
    rss_after_kib: int
    bytes_per_actor: int
    estimated_bytes_per_resident: int  # what the server itself takes a resident for


@contextmanager
def serving(data: Path, memory_max_mib: int) -> Iterator[ServerAddress]:
    arguments = ["serve", str(APPLICATION), "--port", "0", "--data", str(data), "--memory-max-mib", str(memory_max_mib)]
    command = [sys.executable, "-c", "from stead.cli import main; main()", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert select.select([server.stdout], [], [], LIMIT_S)[0] and server.stdout.readline().startswith(b"ready ")
        address = find_server(data)
        assert address is not None
        yield address
    finally:
        server.kill()
        server.communicate()


def rss_kib(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def measure(case: Case, progress: Progress) -> Measured:
    task = progress.add_task(case.name, total=case.before + case.actors)
    with (
        tempfile.TemporaryDirectory(prefix="stead-memory-") as place,
        serving(Path(place) / "data", case.memory_max_mib) as address,
        httpx.Client(base_url=address.url, timeout=LIMIT_S) as client,
    ):

        def fill(start: int, end: int) -> int:
            for first in range(start, end, FILL_ACTORS):
                last = min(first + FILL_ACTORS, end)
                client.post(f"/{case.unit}/fill/{first}/{last}").raise_for_status()
                progress.advance(task, last - first)
            return rss_kib(address.pid)

        before_kib = fill(0, case.before)
        after_kib = fill(case.before, case.before + case.actors)
        stats = client.get("/_stead/admin/stats", headers={"authorization": f"Bearer {address.token}"}).json()
    per_actor = (after_kib - before_kib) * 1024 // case.actors
    estimate = stats["resident_bytes"] // stats["residents"]
    return Measured(case.name, case.actors, stats["residents"], before_kib, after_kib, per_actor, estimate)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of resident and of evicted actors.")
    parser.add_argument("--residents", type=int, default=10_000)
    parser.add_argument("--residents-sql", type=int, default=2_000)
    parser.add_argument("--evicted", type=int, default=100_000)
    parser.add_argument("--evicted-sql", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = [
        Case("resident, one key", "keyed", ROOM_MIB, 1000, options.residents),
        Case("resident, SQL", "tabled", ROOM_MIB, 200, options.residents_sql),
        Case("evicted, one key", "keyed", 1, 20_000, options.evicted),
        Case("evicted, SQL", "tabled", 1, 2_000, options.evicted_sql),
    ]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        measured = [measure(case, progress) for case in cases if case.actors]
    if options.json:
        print(json.dumps([asdict(line) for line in measured], indent=2))
        return
    table = Table("actors", "number", "in memory", "RSS before, MiB", "after, MiB", "bytes each", "server's estimate")
    for line in measured:
        rss = (f"{line.rss_before_kib / 1024:.1f}", f"{line.rss_after_kib / 1024:.1f}")
        table.add_row(
            line.case,
            f"{line.actors:,}",
            f"{line.residents:,}",
            *rss,
            f"{line.bytes_per_actor:,}",
            f"{line.estimated_bytes_per_resident:,}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
