"""Group commit: the turns of many actors share one flush.

While the engine makes one batch durable the next one collects, so a lone write waits for nobody and a busy node makes few flushes.
Where a batch was shared the next one begins a round of the loop later: the answers go out before the writer competes with them for
the interpreter, and what that round brings shares the flush.

An engine whose flush costs time but no processor takes a second batch meanwhile, as soon as that is as large as what is under way:
so both stay large, and neither the engine nor the turns wait for the other. The commits of one actor are never in two batches at
once: what follows one under way waits for it.

The engine refuses single commits, whose owner was fenced or which it cannot store; if it fails as a whole, nothing of the batch was
applied, unless it says that it does not know.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from stead.clock import sleep
from stead.errors import Ambiguous, DurabilityLost, SteadError
from stead.runtime.tasks import Tasks
from stead.storage.contract import BATCH_COMMITS_MAX, Commit, Engine, Refused


class Committed(Protocol):
    """Who submitted a commit and hears how it ended."""

    def commit_durable(self, commit: Commit) -> None: ...
    def commit_lost(self, commit: Commit, error: SteadError) -> None:
        """`DurabilityLost`: it was not applied. `Ambiguous`: it may have been; whoever claims the actor next finds out."""
        ...


class Committer:
    """One per node. `commits` and `flushes` count what became durable and in how many batches."""

    def __init__(self, engine: Engine, tasks: Tasks) -> None:
        self._engine = engine
        self._tasks = tasks
        self._queue: deque[tuple[Commit, Committed]] = deque()
        self._behind: dict[str, list[tuple[Commit, Committed]]] = {}  # by actor under way: what waits for that
        self._under_way = 0  # commits
        self._flights = 0
        self._was_shared = False
        self.commits = 0
        self.flushes = 0

    @property
    def is_idle(self) -> bool:
        return not self._flights

    def submit(self, commit: Commit, submitter: Committed) -> None:
        self._enqueue((commit, submitter))
        if not self._flights or (self._flights < self._engine.flights and self._under_way and self._is_worth_a_flight()):
            self._flights += 1
            self._tasks.start(self._flush())

    def _enqueue(self, item: tuple[Commit, Committed]) -> None:
        behind = self._behind.get(item[0].actor.text)
        (self._queue if behind is None else behind).append(item)

    def _is_worth_a_flight(self) -> bool:
        return len(self._queue) >= max(self._under_way, 1)

    async def _flush(self) -> None:
        try:
            while self._is_worth_a_flight():
                if self._was_shared:
                    await sleep(0)
                if self._queue:  # another flight may have taken it meanwhile
                    await self._flush_batch()
        finally:
            self._flights -= 1

    async def _flush_batch(self) -> None:
        batch = self._take()
        self._was_shared = len(batch) > 1
        self._under_way += len(batch)
        try:
            verdicts = await self._engine.commit([commit for commit, _ in batch])
        except Exception as exc:  # noqa: BLE001 - however an engine fails, whoever waits must hear that nothing is durable
            self._landed(batch)
            for commit, submitter in batch:
                submitter.commit_lost(commit, _lost(commit, exc))
            return
        self._landed(batch)
        self.flushes += 1
        for (commit, submitter), verdict in zip(batch, verdicts, strict=True):
            if verdict:
                self.commits += 1
                submitter.commit_durable(commit)
            elif isinstance(verdict, Refused):
                submitter.commit_lost(commit, _lost(commit, verdict.error))
            else:
                submitter.commit_lost(commit, DurabilityLost(f"another owner has taken over {commit.actor}; this turn was undone"))

    def _take(self) -> list[tuple[Commit, Committed]]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), BATCH_COMMITS_MAX))]
        for commit, _ in batch:
            self._behind[commit.actor.text] = []
        if queue:  # more than one batch holds
            self._queue = deque()
            for item in queue:
                self._enqueue(item)
        return batch

    def _landed(self, batch: list[tuple[Commit, Committed]]) -> None:
        self._under_way -= len(batch)
        for commit, _ in batch:
            self._queue.extend(self._behind.pop(commit.actor.text, ()))


def _lost(commit: Commit, reason: Exception) -> SteadError:
    """What whoever waits for a commit is told that the engine could not store, or does not know of."""
    lost: SteadError
    if isinstance(reason, Ambiguous):
        lost = Ambiguous(f"the writes of {commit.actor} may be durable: {reason}")
    else:
        lost = DurabilityLost(f"the writes of {commit.actor} could not be made durable and were undone: {reason}")
    lost.__cause__ = reason
    return lost
