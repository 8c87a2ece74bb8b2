"""A cluster under attack: `python -m tests.torture`, or `make torture`.

Three nodes share a PostgreSQL that is started for this. Clients count, write, swap and move money over all of them, while every two
seconds a node is killed, frozen for longer than its lease, restarted or drained; with `--postgres` the database is killed as well.
At the end, when all are well, nodes are drained and restarted one at a time, and no client may notice.

What must hold, or the exit code is 1: a counter has given every number once, in the order of time, and has counted what was
acknowledged and at most what was in doubt besides; each register's history is that of one value; no money is lost, made, or moved
twice; no actor is out of reach for longer than a lease and 2 s; and a drained or restarted node fails no request and delays none by
more than 0.5 s, compared with a while in which nothing is done. Clients, nodes and database share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.postgres.server import Database, new_place
from tests.torture.availability import KINDS
from tests.torture.client import Load
from tests.torture.run import Outcome, Plan, causes, median_s, torture
from tests.torture.sabotaged import BUGS

FAULTS_SHOWN_MAX = 20  # --json has the rest


def plan() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="of faults (180)")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="of faults and requests (1)")
    parser.add_argument("--every", type=float, default=Plan.every_s, help="seconds between two faults (2)")
    parser.add_argument("--lease-s", type=float, default=Plan.lease_s, help="the nodes' lease (3)")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="of draining and restarting at the end (3)")
    parser.add_argument("--clients", type=int, default=Load.clients, help="that ask at the same time (64)")
    parser.add_argument("--pause-s", type=float, default=Load.pause_s, help="of a client between requests, on average (0.12)")
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind of fault; may be given again")
    parser.add_argument("--postgres", action="store_true", help="kill the database as well")
    parser.add_argument("--slack-s", type=float, default=0.0, help="beyond every limit of time, on a machine with other work (0)")
    parser.add_argument("--bug", choices=BUGS, default="", help="serve with a planted bug, see sabotaged.py")
    parser.add_argument("--keep", type=Path, help="where to keep the nodes' logs; a temporary directory otherwise")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args()
    load = Load(options.clients, options.pause_s)
    times = options.seconds, options.seed, options.every, options.lease_s, options.rounds
    kinds = tuple(options.only or KINDS)
    return Plan(*times, options.postgres, kinds, options.bug, options.slack_s, load), options


def show(outcome: Outcome, console: Console) -> None:
    struck = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.struck.items()))
    table = Table(title=f"{outcome.plan.load.clients} clients, lease {outcome.plan.lease_s:g} s: {struck}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row("requests · a second", f"{outcome.requests:,} · {outcome.requests / outcome.seconds:.0f}")
    table.add_row("answers", ", ".join(f"{how}: {count:,}" for how, count in sorted(outcome.answers.items())))
    table.add_row("writes acknowledged · in doubt", f"{outcome.acknowledged:,} · {outcome.in_doubt:,}")
    for cause in (None, *causes(outcome.outages)):
        lengths_s = outcome.lengths_s(cause)
        name = "actors out of reach" if cause is None else f"  {cause or 'no fault near'}"
        worst = max(lengths_s, default=0.0)
        table.add_row(f"{name}: times · median · longest", f"{len(lengths_s):,} · {median_s(lengths_s):.2f} s · {worst:.2f} s")
    for one in outcome.graceful:
        told = f"{sum(one.failed.values())} of {one.requests:,} · {one.slowest_s * 1000:.0f} ms"
        table.add_row(f"{f'{one.kind} of {one.node}' if one.node else one.kind} in calm: failed · slowest", told)
    table.add_row("broken promises", str(len(outcome.faults)))
    console.print(table)
    for fault in outcome.faults[:FAULTS_SHOWN_MAX]:
        console.print(fault, style="red", markup=False)


def main() -> int:
    made, options = plan()
    with new_place() as place:
        database = Database(place)
        database.create()
        database.start()
        logs = options.keep or place / "nodes"
        logs.mkdir(parents=True, exist_ok=True)
        try:
            outcome = asyncio.run(torture(made, database, logs))
        finally:
            database.stop()
    if options.json:
        sys.stdout.write(json.dumps(asdict(outcome)))
    else:
        show(outcome, Console())
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
