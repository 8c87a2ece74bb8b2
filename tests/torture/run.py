"""One run: nodes, clients and faults, then everything is looked at."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stead.clock import SystemClock, sleep
from stead.ids import Chance
from tests.crash.attack import STEAD
from tests.postgres.server import Database
from tests.torture.accounts import Statement, on_their_way
from tests.torture.app.app import OPENING_BALANCE
from tests.torture.availability import BEYOND_S, KINDS, Fault, Outage, outages
from tests.torture.client import Client, Load, Request
from tests.torture.history import History
from tests.torture.nodes import Node, cluster
from tests.torture.probes import Probes
from tests.torture.registers import Undecided
from tests.torture.storm import Storm

NODES = 3
CALM_S = 1.0  # between two faults that clients shall not notice
GRACEFUL_S_MAX = 0.5  # for which an actor may be out of reach then, beyond the slowest answer while nothing happens
SETTLED_S_MAX = 30.0  # a signal is sent again after 5 s, or when its target's node is back
AUDITORS = 8  # that read at the same time at the end
POLL_S = 0.2
CLOCK = SystemClock()


@dataclass(frozen=True)
class Plan:
    """Faults for so long, then so many rounds of what clients shall not notice. With `crashes_database` it is killed, too; `bug` is
    one of `sabotaged`, in every node. `slack_s` is allowed beyond every limit of time, for a machine with other work to do.
    """

    seconds: float = 180.0
    seed: int = 1
    every_s: float = 2.0
    lease_s: float = 3.0
    rounds: int = 3
    crashes_database: bool = False
    kinds: tuple[str, ...] = KINDS
    bug: str = ""
    slack_s: float = 0.0
    load: Load = field(default_factory=Load)


@dataclass(frozen=True)
class Graceful:
    """What clients noticed while a node was drained or restarted, and nothing else happened; for comparison, while nothing did."""

    kind: str
    node: str
    took_s: float
    requests: int
    failed: dict[str, int]  # by how
    slowest_s: float


@dataclass(frozen=True)
class Outcome:
    """What a run has shown."""

    plan: Plan
    requests: int
    seconds: float
    acknowledged: int
    in_doubt: int
    answers: dict[str, int]
    struck: dict[str, int]  # how often, by kind
    outages: list[Outage]  # of the storm
    graceful: list[Graceful]
    answered: list[int]  # requests that were, by second
    faults: list[str]

    def lengths_s(self, cause: str | None = None) -> list[float]:
        return sorted(outage.length_s for outage in self.outages if cause in {None, outage.cause})


async def torture(plan: Plan, database: Database, place: Path) -> Outcome:
    """Raises `AssertionError` or `NeverCame` where a node does not start again, or nothing answers."""
    history, chance = History(), Chance(plan.seed)
    launcher = (str(Path(__file__).with_name("sabotaged.py")), plan.bug) if plan.bug else STEAD
    async with cluster(NODES, database.dsn, plan.lease_s, place, launcher) as nodes:
        begin_s = CLOCK.elapsed_s()
        storm = Storm(nodes, history, chance, plan.kinds, database if plan.crashes_database else None)
        probes = Probes(storm.well, history, Chance(plan.seed))
        calm = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(plan.load.clients):
                tasks.create_task(_client(number, nodes, plan, history, probes).work(calm))
            await storm.rage(plan.seconds, plan.every_s)
            await sleep(plan.lease_s + BEYOND_S)
            raged = len(history.faults), CLOCK.elapsed_s()
            await storm.tend(plan.rounds, CALM_S)
            calm.set()
        end_s = CLOCK.elapsed_s()
        statements = await _audit(nodes, plan, history, probes)
        await probes.close()
    return _outcome(plan, history, statements, (begin_s, raged[1], end_s), raged[0])


def _client(number: int, nodes: Sequence[Node], plan: Plan, history: History, probes: Probes) -> Client:
    chance, patience_s = Chance(plan.seed * 10_000 + number), plan.lease_s + 2 * BEYOND_S
    return Client(number, nodes, plan.load, history, chance, patience_s, probes)


async def _audit(nodes: Sequence[Node], plan: Plan, history: History, probes: Probes) -> dict[str, Statement]:
    """Read everything once more, when nothing happens any longer."""
    auditors = [_client(plan.load.clients + number, nodes, plan, history, probes) for number in range(AUDITORS)]
    statements: dict[str, Statement] = {}

    async def read(auditor: Client, part: int) -> None:
        for name in range(part, plan.load.counters, AUDITORS):
            await auditor.count(str(name), is_read=True)
        for name in range(part, plan.load.registers, AUDITORS):
            await auditor.read(str(name))

    async def state(auditor: Client, part: int) -> None:
        for name in range(part, plan.load.accounts, AUDITORS):
            said = await auditor.look(Request(f"account/{name}", "GET", f"/accounts/{name}"))
            statements[str(name)] = Statement(said["value"], said["sent"], said["taken"])

    until_s = CLOCK.elapsed_s() + SETTLED_S_MAX
    try:
        await asyncio.gather(*(read(auditor, part) for part, auditor in enumerate(auditors)))
        await asyncio.gather(*(state(auditor, part) for part, auditor in enumerate(auditors)))
        while on_their_way(statements) and CLOCK.elapsed_s() < until_s:
            await sleep(POLL_S)
            await asyncio.gather(*(state(auditor, part) for part, auditor in enumerate(auditors)))
    finally:
        for auditor in auditors:
            await auditor.close()
    return statements


def _outcome(
    plan: Plan, history: History, statements: dict[str, Statement], times_s: tuple[float, float, float], raged: int
) -> Outcome:
    begin_s, calm_s, end_s = times_s
    found = [outage for outage in outages(history.attempts, history.faults) if outage.begin_s < calm_s]
    graceful = [_graceful(fault, history) for fault in history.faults[raged:]]
    faults = _found(history, statements)
    faults += [
        f"{one.kind} of {one.node}: {one.failed or 'no'} requests failed, the slowest took {one.slowest_s:.2f} s"
        for one in graceful
        if one.failed or one.slowest_s > graceful[0].slowest_s + GRACEFUL_S_MAX + plan.slack_s
    ]
    faults += [
        f"{outage.actor} was out of reach for {outage.length_s:.2f} s, after {outage.cause or 'nothing'} and {outage.hits} faults"
        for outage in found
        if outage.length_s > plan.lease_s + BEYOND_S + plan.slack_s
    ]
    answered = Counter(int(attempt.end_s - begin_s) for attempt in history.attempts if attempt.owner)
    return Outcome(
        plan=plan,
        requests=len(history.attempts),
        seconds=end_s - begin_s,
        acknowledged=history.acknowledged,
        in_doubt=history.in_doubt,
        answers=dict(history.answers),
        struck=dict(Counter(fault.kind for fault in history.faults[:raged])),
        outages=found,
        graceful=graceful,
        answered=[answered[second] for second in range(int(end_s - begin_s))],
        faults=faults,
    )


def _found(history: History, statements: dict[str, Statement]) -> list[str]:
    try:
        return history.found(statements, OPENING_BALANCE)
    except Undecided as exc:
        return [f"a register's history could not be decided: {exc}"]


def _graceful(fault: Fault, history: History) -> Graceful:
    meanwhile = [attempt for attempt in history.attempts if fault.meets(attempt.begin_s, attempt.end_s)]
    return Graceful(
        fault.kind,
        fault.node,
        fault.end_s - fault.begin_s,
        len(meanwhile),
        dict(Counter(attempt.how for attempt in meanwhile if not attempt.owner)),
        max((attempt.end_s - attempt.begin_s for attempt in meanwhile), default=0.0),
    )


def median_s(lengths_s: Sequence[float]) -> float:
    return statistics.median(lengths_s) if lengths_s else 0.0


def causes(found: Sequence[Outage]) -> list[str]:
    return sorted({outage.cause for outage in found})
