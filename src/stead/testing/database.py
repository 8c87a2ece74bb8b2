"""The database that the nodes of a test share, with its faults: a way to it that is cut, and a failover.

`Database` keeps the contract of `stead.storage.membership` in memory (`stead.storage.shared`). Each node reaches it through a
`DatabaseEngine`, a `FaultEngine` whose requests wait while the way is cut, and are given up after a while: what only asks, with
`EngineFailed`; a commit, where nobody can tell whether it came before the cut, with `Ambiguous`.

**Failover.** The database counts its changes. A failover replaces it by a copy that lacks the last ones, as an asynchronous standby
may, claims and leases among them, and begins a generation of the store. A copy that lacks nothing is a synchronous one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stead.clock import Clock, sleep
from stead.errors import Ambiguous, EngineFailed
from stead.ids import ActorId, Chance
from stead.storage.contract import Commit, Verdict
from stead.storage.membership import Member, NodeInfo
from stead.storage.memory import Ownership
from stead.storage.shared import NodeRow, SharedMemoryEngine, SharedStore
from stead.testing.faults import FaultEngine

ANSWER_S_MAX = 2.0  # that a node waits for the database before it gives a request up
_POLL_S = 0.05

Change = Callable[[SharedStore], None]


class Database(SharedStore):
    """What would be in the database, and every change that made it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._changes: list[Change] = []
        self._commits: list[tuple[int, Commit]] = []  # with their places among the changes

    def engine(self, chance: Chance, commit_s: float = 0.0) -> DatabaseEngine:
        """A node's engine; its incarnations, and what its requests take, come from `chance`."""
        return DatabaseEngine(SharedMemoryEngine(self, chance), chance, commit_s)

    def fail_over(self, lost: int = 0) -> list[Commit]:
        """Go on with a copy that lacks everything since the last `lost` commits began. Returns those commits."""
        gone = self._commits[len(self._commits) - lost :] if lost else []
        kept = gone[0][0] if gone else len(self._changes)
        del self._changes[kept:], self._commits[len(self._commits) - len(gone) :]
        copy = SharedStore(self.clock)
        for change in self._changes:
            change(copy)
        self.actors, self.ids, self.alarms = copy.actors, copy.ids, copy.alarms
        self.owners, self.nodes = copy.owners, copy.nodes
        self.generation += 1
        return [commit for _, commit in gone]

    def apply(self, commit: Commit) -> None:
        self._commits.append((len(self._changes), commit))
        self._changes.append(lambda store: store.apply(commit))
        super().apply(commit)

    def own(self, text: str, ownership: Ownership) -> None:
        self._changes.append(lambda store: store.own(text, ownership))
        super().own(text, ownership)

    def enrol(self, row: NodeRow) -> None:
        self._changes.append(lambda store: store.enrol(row))
        super().enrol(row)

    def strike(self, incarnation: int) -> None:
        self._changes.append(lambda store: store.strike(incarnation))
        super().strike(incarnation)


class _Unanswered(EngineFailed):
    """The database did not answer in time."""


class DatabaseEngine(FaultEngine):
    """One node's way to the database. `cut` and `mend` it."""

    def __init__(self, engine: SharedMemoryEngine, chance: Chance, commit_s: float = 0.0) -> None:
        super().__init__(engine, chance, commit_s)
        self._shared = engine
        self._is_cut = False
        self._is_mute = False

    @property
    def incarnation(self) -> int:
        return self._shared.incarnation

    def cut(self) -> None:
        """Let no request and no answer through from now on."""
        self._is_cut = True

    def mend(self) -> None:
        """Let everything through again, what still waits too."""
        self._is_cut = False

    def lose_next_answer(self) -> None:
        """Apply the next batch of commits or not, as the chance says, and tell nobody."""
        self._is_mute = True

    async def crash(self) -> None:
        """Die; what was under way while the way was cut has not arrived."""
        if self._is_cut:
            self._crashed = True
        else:
            await super().crash()

    @property
    def has_fixed_owners(self) -> bool:
        return self._shared.has_fixed_owners

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        await self._reach()
        await self._shared.join(info, lease_s, takes_name=takes_name, is_draining=is_draining)
        await self._reach()

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        await self._reach()
        members = await self._shared.renew(is_cut_off=is_cut_off)
        await self._reach()
        return members

    async def leave(self) -> None:
        await self._reach()
        await self._shared.leave()

    async def set_draining(self, name: str, is_draining: bool) -> bool:
        await self._reach()
        return await self._shared.set_draining(name, is_draining)

    async def owner(self, actor: ActorId) -> int | None:
        await self._reach()
        return await self._shared.owner(actor)

    async def owned(self, incarnation: int | None = None) -> dict[int, int]:
        await self._reach()
        return await self._shared.owned(incarnation)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        try:
            is_mute, self._is_mute = self._is_mute, False
            if is_mute and self._chance.below(2):
                raise _Unanswered("the request was lost (a fault of the test)")
            verdicts = await super().commit(batch)
            if is_mute:
                raise _Unanswered("the answer was lost (a fault of the test)")
            return verdicts
        except _Unanswered as exc:
            raise Ambiguous("the database did not say whether it committed") from exc

    async def _reach(self) -> None:
        await super()._reach()
        until_s = asyncio.get_running_loop().time() + ANSWER_S_MAX
        while self._is_cut:
            if asyncio.get_running_loop().time() >= until_s:
                raise _Unanswered("the database does not answer (a fault of the test)")
            await sleep(_POLL_S)
            self._check_alive()
