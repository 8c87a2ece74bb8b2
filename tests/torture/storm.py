"""What is done to the nodes, and to the database: by chance and without pause, or one after the other and in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from stead.clock import SystemClock, sleep
from stead.ids import Chance
from tests.postgres.server import Database
from tests.torture.availability import DRAIN, FREEZE, KILL, POSTGRES, QUIET, RESTART, Fault
from tests.torture.history import History
from tests.torture.nodes import Node, stead

DOWN_S_MAX = 1.0  # from the end of a process to its next start
QUIET_S = 3.0
FROZEN_LEASES = (1.1, 1.6)  # how long a node stands still
DRAINED_S = 1.0  # before it takes actors again
CLOCK = SystemClock()


class Storm:
    """Leaves one node alone at any time. `database` is None where it is not to be touched."""

    def __init__(
        self, nodes: Sequence[Node], history: History, chance: Chance, kinds: Sequence[str], database: Database | None
    ) -> None:
        self._nodes = nodes
        self._well = list(nodes)
        self._history = history
        self._chance = chance
        self._kinds = kinds
        self._database = database
        self._hurts = {KILL: self._kill, FREEZE: self._freeze, RESTART: self._restart, DRAIN: self._drain}

    def well(self) -> Sequence[Node]:
        """To which nothing is being done; never empty but where the database is away."""
        return self._well or self._nodes

    async def rage(self, seconds: float, every_s: float) -> None:
        """A fault every so often, until all are over again."""
        until_s = CLOCK.elapsed_s() + seconds
        async with asyncio.TaskGroup() as tasks:
            while CLOCK.elapsed_s() + every_s < until_s:
                await sleep(every_s)
                if self._database is not None and len(self._well) == len(self._nodes) and self._chance.below(4):
                    tasks.create_task(self._strike(POSTGRES, list(self._well)))
                elif len(self._well) > 1:
                    kind = self._kinds[self._chance.below(len(self._kinds))]
                    tasks.create_task(self._strike(kind, [self._well[self._chance.below(len(self._well))]]))

    async def tend(self, rounds: int, pause_s: float) -> None:
        """Drain and restart the nodes in turn, each once all are well; first nothing, for as long as clients need to be seen."""
        begin_s = CLOCK.elapsed_s()
        await sleep(QUIET_S)
        self._history.faults.append(Fault(QUIET, "", begin_s, CLOCK.elapsed_s()))
        for number in range(rounds):
            for kind in (DRAIN, RESTART):
                await sleep(pause_s)
                await self._strike(kind, [self._nodes[number % len(self._nodes)]])

    async def _strike(self, kind: str, hit: Sequence[Node]) -> None:
        for node in hit:
            self._well.remove(node)
        begin_s = CLOCK.elapsed_s()
        if kind == POSTGRES:
            await self._crash_database()
        else:
            await self._hurts[kind](hit[0])
        self._history.faults.append(Fault(kind, "" if kind == POSTGRES else hit[0].name, begin_s, CLOCK.elapsed_s()))
        self._well.extend(hit)

    async def _kill(self, node: Node) -> None:
        node.signal(signal.SIGKILL)
        await node.wait_end()
        await sleep(DOWN_S_MAX * self._chance.fraction())
        await node.start()

    async def _freeze(self, node: Node) -> None:
        shortest, longest = FROZEN_LEASES
        node.signal(signal.SIGSTOP)
        await sleep(node.lease_s * (shortest + (longest - shortest) * self._chance.fraction()))
        node.signal(signal.SIGCONT)

    async def _restart(self, node: Node) -> None:
        node.signal(signal.SIGTERM)
        await node.wait_end()
        if node.code != 0:
            self._history.wrong.append(f"{node.name} ended with {node.code} when it was asked to stop")
        await node.start()

    async def _drain(self, node: Node) -> None:
        await stead("nodes", "drain", node.name, "--wait", "--data", str(node.data))
        await sleep(DRAINED_S)
        await stead("nodes", "uncordon", node.name, "--data", str(node.data))

    async def _crash_database(self) -> None:
        assert self._database is not None
        await asyncio.to_thread(self._database.kill)
        await sleep(DOWN_S_MAX * self._chance.fraction())
        await asyncio.to_thread(self._database.start)
