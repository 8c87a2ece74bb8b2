"""Group commit: the turns of many actors share one flush.

While the engine makes one batch durable the next one collects, so a lone write waits for nobody and a busy node makes few flushes.
Where a batch was shared the next one begins a round of the loop later: the answers go out before the writer competes with them for
the interpreter, and what that round brings shares the flush.

The engine refuses single commits whose owner was fenced; if it fails as a whole, nothing of the batch was applied, unless it says
that it does not know.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from stead.clock import sleep
from stead.errors import Ambiguous, DurabilityLost, SteadError
from stead.runtime.tasks import Tasks
from stead.storage.contract import BATCH_COMMITS_MAX, Commit, Engine


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
        self._running = False
        self._was_shared = False
        self.commits = 0
        self.flushes = 0

    @property
    def is_idle(self) -> bool:
        return not self._running

    def submit(self, commit: Commit, owner: Committed) -> None:
        self._queue.append((commit, owner))
        if not self._running:
            self._running = True
            self._tasks.start(self._flush())

    async def _flush(self) -> None:
        try:
            while self._queue:
                if self._was_shared:
                    await sleep(0)
                await self._flush_batch()
        finally:
            self._running = False

    async def _flush_batch(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_COMMITS_MAX))]
        self._was_shared = len(batch) > 1
        try:
            applied = await self._engine.commit([commit for commit, _ in batch])
        except Exception as exc:  # noqa: BLE001 - however an engine fails, whoever waits must hear that nothing is durable
            for commit, owner in batch:
                lost: SteadError
                if isinstance(exc, Ambiguous):
                    lost = Ambiguous(f"the writes of {commit.actor} may be durable: {exc}")
                else:
                    lost = DurabilityLost(f"the writes of {commit.actor} could not be made durable and were undone: {exc}")
                lost.__cause__ = exc
                owner.commit_lost(commit, lost)
            return
        self.flushes += 1
        for (commit, owner), durable in zip(batch, applied, strict=True):
            if durable:
                self.commits += 1
                owner.commit_durable(commit)
            else:
                owner.commit_lost(commit, DurabilityLost(f"another owner has taken over {commit.actor}; this turn was undone"))
