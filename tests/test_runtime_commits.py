"""Group commit: what becomes of commits whose outcome is not a plain yes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stead.clock import sleep
from stead.errors import Ambiguous, DurabilityLost, EngineFailed, SteadError
from stead.ids import named_id
from stead.runtime.commits import Committer
from stead.runtime.gate import Gate, LeasedGate
from stead.runtime.tasks import Tasks
from stead.storage.contract import Commit
from stead.storage.memory import MemoryEngine

pytestmark = pytest.mark.usefixtures("clock")
ACTOR = named_id("counter", "a")


class Unsure(MemoryEngine):
    """Applies a batch, or not, and says neither."""

    def __init__(self, error: SteadError) -> None:
        super().__init__()
        self.error = error

    async def commit(self, batch: Sequence[Commit]) -> Sequence[bool]:
        raise self.error


class Owner:
    def __init__(self) -> None:
        self.errors: list[SteadError] = []

    def commit_durable(self, commit: Commit) -> None:
        raise AssertionError("nobody said so")

    def commit_lost(self, commit: Commit, error: SteadError) -> None:
        self.errors.append(error)


@pytest.mark.parametrize(("error", "heard"), [(EngineFailed("full"), DurabilityLost), (Ambiguous("cut off"), Ambiguous)])
async def test_an_unknown_outcome_is_not_called_a_loss(error: SteadError, heard: type[SteadError]) -> None:
    """`DurabilityLost` says that it was undone; where the engine does not know, nobody claims to."""
    tasks, owner = Tasks(), Owner()
    Committer(Unsure(error), tasks).submit(Commit(ACTOR, 1, 1, {b"k": b"v"}, {}, 2, 0), owner)
    await sleep(0)
    await tasks.close()
    assert [type(error) for error in owner.errors] == [heard]


class Lease:
    is_held = True


class Held:
    def __init__(self) -> None:
        self.left: list[object] = []

    def release(self, value: object, error: BaseException | None) -> None:
        self.left.append(value if error is None else type(error))


async def test_nothing_leaves_a_gate_without_the_lease() -> None:
    """Neither what waits for no commit, nor what waited for one that is durable by now, nor who asked for that."""
    lease, held = Lease(), Held()
    gate: Gate = LeasedGate(0, lease)
    gate.release(held, "a read")
    gate.submitted = 1
    gate.release(held, "a write")
    lease.is_held = False
    gate.settle(1)
    gate.release(held, "another read")
    assert held.left == ["a read", Ambiguous, Ambiguous]
    with pytest.raises(Ambiguous):
        await gate.wait_open()
