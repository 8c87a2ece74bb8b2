"""Kill a server in the middle of work, again and again, and check what it has kept.

    python -m tests.crash.kill_loop --rounds 20 --clients 32

A round starts `stead serve` on the data that the round before left behind, checks it (every third round does not), lets clients
write for 0.2 to 1 s and sends SIGKILL. Whatever was acknowledged, by an answer to a write or by having been shown to a reader, must
be there after each restart, once and unchanged, in every later round as well. A request without an answer may have happened or not,
but never twice or in part. What waits to be delivered must be delivered, and something must be set that wakes it.

What it is not: a loss of power. A killed process leaves the operating system's cache alive, so a write that was never flushed
survives here. That no answer comes before its flush is what `tests/process/test_flushes.py` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stead.ids import Chance
from tests.crash.attack import STEAD, Attack, Outcome
from tests.crash.connection import NeverCame
from tests.crash.sabotaged import BUGS
from tests.crash.workload import Workload
from tests.crash.workloads.carts import Carts
from tests.crash.workloads.counters import Counters
from tests.crash.workloads.ledgers import Ledgers
from tests.crash.workloads.orders import Orders
from tests.crash.workloads.queues import Queues
from tests.crash.workloads.signals import Signals

FAULTS_SHOWN_MAX = 20  # of all that were found; --json has the rest
WORKLOADS: dict[str, Callable[[], Workload]] = {
    "carts": Carts,
    "counters": Counters,
    "ledgers": Ledgers,
    "orders": Orders,
    "queues": Queues,
    "signals": Signals,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill a server in the middle of work and check what it has kept.")
    parser.add_argument("--rounds", type=int, default=20, help="kills of each workload's server (20)")
    parser.add_argument("--clients", type=int, default=32, help="that write at the same time (32)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (1)")
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="this workload; may be given again")
    parser.add_argument("--bug", choices=BUGS, metavar="BUG", help="serve with a planted bug, see sabotaged.py")
    parser.add_argument("--data", type=Path, help="where to keep the data; a temporary directory otherwise")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    return parser.parse_args()


async def attack_all(options: argparse.Namespace, data: Path) -> list[Outcome]:
    launcher = (str(Path(__file__).with_name("sabotaged.py")), options.bug) if options.bug else STEAD
    names = options.only or list(WORKLOADS)
    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("kill -9", total=options.rounds * len(names))
        for name in names:
            attack = Attack(WORKLOADS[name](), data / name, options.clients, Chance(options.seed), launcher)
            async for outcome in attack.run(options.rounds):
                outcomes.append(outcome)
                progress.advance(task)
    return outcomes


def table(outcomes: list[Outcome]) -> Table:
    shown = Table("workload", "rounds", "acknowledged", "in doubt", "restart, ms (most)", "faults", title="kill -9 under load")
    for name in dict.fromkeys(outcome.workload for outcome in outcomes):
        of_it = [outcome for outcome in outcomes if outcome.workload == name]
        sums = (sum(outcome.acknowledged for outcome in of_it), sum(outcome.in_doubt for outcome in of_it))
        restarts = sorted(outcome.restart_ms for outcome in of_it)
        faults = sum(len(outcome.faults) for outcome in of_it)
        cells = (len(of_it), f"{sums[0]:,}", sums[1], f"{restarts[len(of_it) // 2]} ({restarts[-1]})", faults)
        shown.add_row(name, *map(str, cells), style="red" if faults else None)
    return shown


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="stead-kill-") as temporary:
        try:
            outcomes = asyncio.run(attack_all(options, options.data or Path(temporary)))
        except NeverCame as exc:
            sys.exit(str(exc))
    faults = [f"{outcome.workload}, round {outcome.round}: {fault}" for outcome in outcomes for fault in outcome.faults]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        Console().print(table(outcomes))
        for fault in faults[:FAULTS_SHOWN_MAX]:
            print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
