"""Group commit: what becomes of commits whose outcome is not a plain yes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stead.clock import sleep
from stead.errors import Ambiguous, DurabilityLost, EngineFailed, SteadError
from stead.ids import Chance, named_id
from stead.runtime.commits import Committer
from stead.runtime.gate import Gate, LeasedGate
from stead.runtime.tasks import Tasks
from stead.storage.contract import BATCH_COMMITS_MAX, Commit, Refused, Verdict
from stead.storage.memory import MemoryEngine
from stead.testing.faults import FaultEngine

pytestmark = pytest.mark.usefixtures("clock")
ACTOR = named_id("counter", "a")


class Unsure(MemoryEngine):
    """Applies a batch, or not, and says neither."""

    def __init__(self, error: SteadError) -> None:
        super().__init__()
        self.error = error

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
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


class Slow(MemoryEngine):
    """Works on two batches at once, each until it is let go."""

    @property
    def flights(self) -> int:
        return 2

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[tuple[list[Commit], asyncio.Event]] = []

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        let_go = asyncio.Event()
        self.under_way.append((list(batch), let_go))
        await let_go.wait()
        self.under_way = [flight for flight in self.under_way if flight[1] is not let_go]
        return await super().commit(batch)

    def names(self) -> list[list[tuple[str, int]]]:
        """What each flight has of which actor, by name and `seq`."""
        return [[(commit.actor.text.partition("/")[2], commit.seq) for commit in batch] for batch, _ in self.under_way]


class Tally:
    """Hears that everything became durable, in the order of each actor."""

    def __init__(self) -> None:
        self.durable: dict[str, list[int]] = {}

    def commit_durable(self, commit: Commit) -> None:
        self.durable.setdefault(commit.actor.text, []).append(commit.seq)

    def commit_lost(self, commit: Commit, error: SteadError) -> None:
        raise error


async def rounds() -> None:
    for _ in range(10):
        await sleep(0)


class Picky(FaultEngine):
    """Cannot store what actors named "x" hold."""

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        verdicts = list[Verdict](await super().commit([commit for commit in batch if commit.actor.name != "x"]))
        for position, commit in enumerate(batch):
            if commit.actor.name == "x":
                verdicts.insert(position, Refused(EngineFailed("too large for an index")))
        return verdicts


async def test_who_is_refused_hears_why_and_who_is_fenced_that() -> None:
    """Each as `DurabilityLost`; what shared the batch with them is durable."""
    engine, tasks, refused, fenced, tally = Picky(MemoryEngine(), Chance(1)), Tasks(), Owner(), Owner(), Tally()
    committer = Committer(engine, tasks)
    epochs = {name: (await engine.claim(named_id("counter", name))).epoch - (name == "old") for name in ("x", "old", "a")}
    for name, owner in (("x", refused), ("old", fenced), ("a", tally)):
        committer.submit(Commit(named_id("counter", name), epochs[name], 1, {b"k": b"v"}, {}, 2, 0), owner)
    while not committer.is_idle:
        await sleep(0)
    await tasks.close()
    assert tally.durable == {"counter/a": [1]} and (committer.flushes, committer.commits) == (1, 1)
    for owner, said in ((refused, "too large for an index"), (fenced, "another owner has taken over counter/old")):
        [error] = owner.errors
        assert isinstance(error, DurabilityLost) and said in str(error)


async def test_a_second_flight_is_as_large_as_the_first_and_shares_no_actor_with_it() -> None:
    engine, tasks, tally = Slow(), Tasks(), Tally()
    committer = Committer(engine, tasks)
    epochs = {name: (await engine.claim(named_id("counter", name))).epoch for name in "abcdef"}

    def submit(*commits: tuple[str, int]) -> None:
        for name, seq in commits:
            committer.submit(Commit(named_id("counter", name), epochs[name], seq, {b"k": b"v"}, {}, 2, 0), tally)

    submit(("a", 1), ("b", 1))
    await rounds()
    assert engine.names() == [[("a", 1), ("b", 1)]]
    submit(("c", 1), ("a", 2), ("a", 3))  # one that may go, and two that must not: fewer than are under way
    await rounds()
    assert engine.names() == [[("a", 1), ("b", 1)]]
    submit(("d", 1))
    await rounds()
    assert engine.names() == [[("a", 1), ("b", 1)], [("c", 1), ("d", 1)]]
    submit(("e", 1), ("f", 1), ("c", 2))  # two flights are all
    await rounds()
    assert len(engine.under_way) == 2
    engine.under_way[0][1].set()
    await rounds()
    assert engine.names() == [[("c", 1), ("d", 1)], [("e", 1), ("f", 1), ("a", 2), ("a", 3)]]
    while engine.under_way:
        engine.under_way[0][1].set()
        await rounds()
    assert tally.durable == {
        f"counter/{name}": seqs for name, seqs in {"a": [1, 2, 3], "b": [1], "c": [1, 2], "d": [1], "e": [1], "f": [1]}.items()
    }
    assert committer.is_idle
    await tasks.close()


async def test_what_one_batch_cannot_hold_waits_behind_its_actors() -> None:
    engine, tasks, tally = Slow(), Tasks(), Tally()
    committer = Committer(engine, tasks)
    epoch = (await engine.claim(ACTOR)).epoch
    count = 2 * BATCH_COMMITS_MAX + 1
    for seq in range(1, count + 1):
        committer.submit(Commit(ACTOR, epoch, seq, {b"k": b"v"}, {}, 2, 0), tally)
    sizes = []
    await rounds()
    while engine.under_way:
        sizes.append([len(batch) for batch, _ in engine.under_way])
        engine.under_way[0][1].set()
        await rounds()
    assert sizes == [[BATCH_COMMITS_MAX], [BATCH_COMMITS_MAX], [1]]
    assert tally.durable == {ACTOR.text: list(range(1, count + 1))}
    await tasks.close()


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
