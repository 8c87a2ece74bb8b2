"""Who may commit: claims, and those that another one has fenced."""

from __future__ import annotations

import asyncio

from stead.storage.contract import LOAD_BYTES_MAX, Commit, Engine
from stead.testing.conformance.opening import Openable, checked
from stead.testing.conformance.turns import A, B, C, claimed, everything


class Claims(Openable):
    @checked
    async def test_unknown_actor_is_empty(self, engine: Engine) -> None:
        """An actor never seen has seq 0, size 0 and no entries, and is in no list."""
        claim = await engine.claim(A)
        assert (claim.seq, claim.size_bytes, claim.entries) == (0, 0, {})
        assert await engine.read(A, [b"k"]) == {}
        assert await engine.scan(A, b"", None) == []
        assert await engine.actors() == []
        assert await engine.next_due_ms() is None

    @checked
    async def test_epochs_grow(self, engine: Engine) -> None:
        """Each claim of an actor has a larger epoch than every earlier one, also after a release."""
        epochs = []
        for _ in range(3):
            claim = await engine.claim(A)
            epochs.append(claim.epoch)
            await engine.release(A, claim.epoch)
            epochs.append((await engine.claim(A)).epoch)
        assert epochs == sorted(set(epochs))
        assert epochs[0] > 0

    @checked
    async def test_claim_returns_what_was_committed(self, engine: Engine) -> None:
        """A claim shows the last commit's seq and size and all entries, empty values too."""
        turns = await claimed(engine, A)
        assert await engine.commit([turns.turn({b"k": b"v", b"empty": b""}, size_bytes=7)]) == [True]
        claim = await engine.claim(A)
        assert (claim.seq, claim.size_bytes, claim.entries) == (1, 7, {b"k": b"v", b"empty": b""})

    @checked
    async def test_claim_of_a_large_actor_loads_nothing(self, engine: Engine) -> None:
        """Up to LOAD_BYTES_MAX the entries come with the claim, above it None; they are read by key then."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"}, size_bytes=LOAD_BYTES_MAX)])
        assert (await engine.claim(A)).entries == {b"k": b"v"}
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"l": b"w"}, size_bytes=LOAD_BYTES_MAX + 1)])
        claim = await engine.claim(A)
        assert (claim.entries, claim.size_bytes, claim.seq) == (None, LOAD_BYTES_MAX + 1, 2)
        assert await engine.read(A, [b"k", b"l"]) == {b"k": b"v", b"l": b"w"}

    @checked
    async def test_claimed_entries_are_the_callers(self, engine: Engine) -> None:
        """Changing the dictionary a claim returned changes nothing stored."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"})])
        entries = (await engine.claim(A)).entries
        assert entries is not None
        entries.clear()
        assert (await engine.claim(A)).entries == {b"k": b"v"}

    @checked
    async def test_claim_sees_the_commits_before_it(self, engine: Engine) -> None:
        """A claim made while a commit is under way returns the state after it, or that commit is refused."""
        turns = await claimed(engine, A)
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(engine.commit([turns.turn({b"k": b"v"})]))
            claim = group.create_task(engine.claim(A))
        was_applied = commit.result() == [True]
        assert (claim.result().seq, claim.result().entries) == ((1, {b"k": b"v"}) if was_applied else (0, {}))
        assert await everything(engine, A) == ({b"k": b"v"} if was_applied else {})

    @checked
    async def test_claim_after_release_sees_the_commits_before_it(self, engine: Engine) -> None:
        """The same where the first owner gave up in between: a commit under way is not forgotten with its owner."""
        turns = await claimed(engine, A)
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(engine.commit([turns.turn({b"k": b"v"})]))
            group.create_task(engine.release(A, turns.claim.epoch))
            again = group.create_task(claimed(engine, A))
        assert again.result().claim.seq == (1 if commit.result() == [True] else 0)
        assert await engine.commit([again.result().turn({b"k": b"w"})]) == [True]


class Fencing(Openable):
    @checked
    async def test_earlier_epoch_is_refused(self, engine: Engine) -> None:
        """After a second claim the first owner's commits are refused and leave no trace; the second's are applied."""
        first, second = await claimed(engine, A), await claimed(engine, A)
        assert await engine.commit([first.turn({b"k": b"first"}, alarms={"": 1})]) == [False]
        assert await everything(engine, A) == {}
        assert await engine.due(10, 10) == []
        assert await engine.commit([second.turn({b"k": b"second"})]) == [True]
        assert await everything(engine, A) == {b"k": b"second"}

    @checked
    async def test_refusal_is_for_one_actor_only(self, engine: Engine) -> None:
        """A fenced commit in the middle of a batch leaves the others in it unaffected; verdicts come in order."""
        stale, a, b, c = [await claimed(engine, actor) for actor in (B, A, B, C)]
        batch = [a.turn({b"k": b"a"}), stale.turn({b"k": b"stale"}), c.turn({b"k": b"c"}), b.turn({b"k": b"b"})]
        assert await engine.commit(batch) == [True, False, True, True]
        assert [await everything(engine, actor) for actor in (A, B, C)] == [{b"k": b"a"}, {b"k": b"b"}, {b"k": b"c"}]

    @checked
    async def test_unclaimed_actor_cannot_commit(self, engine: Engine) -> None:
        """A commit whose epoch was never handed out is refused, an epoch of another actor too."""
        other = await engine.claim(B)
        for epoch in (0, 1, other.epoch, other.epoch + 1):
            assert await engine.commit([Commit(A, epoch, 1, {b"k": b"v"}, {}, 1, 1)]) == [False]
        assert await everything(engine, A) == {}

    @checked
    async def test_released_epoch_is_refused(self, engine: Engine) -> None:
        """After a release its epoch commits no more; a release of an earlier epoch takes nothing from the owner."""
        first, second = await claimed(engine, A), await claimed(engine, A)
        await engine.release(A, first.claim.epoch)
        assert await engine.commit([second.turn({b"k": b"v"})]) == [True]
        await engine.release(A, second.claim.epoch)
        await engine.release(A, second.claim.epoch)
        assert await engine.commit([second.turn({b"k": b"w"})]) == [False]
        assert await everything(engine, A) == {b"k": b"v"}

    @checked
    async def test_seq_must_follow(self, engine: Engine) -> None:
        """A commit that skips or repeats a seq is refused; the one that follows is applied."""
        turns = await claimed(engine, A)
        first, second, third = turns.turn({b"k": b"1"}), turns.turn({b"k": b"2"}), turns.turn({b"k": b"3"})
        assert await engine.commit([second]) == [False]
        assert await engine.commit([first]) == [True]
        assert await engine.commit([first]) == [False]
        assert await engine.commit([third]) == [False]
        assert await engine.commit([second]) == [True]
        assert await everything(engine, A) == {b"k": b"2"}

    @checked
    async def test_refused_commit_refuses_the_later_ones_of_its_claim(self, engine: Engine) -> None:
        """In one batch nothing of a claim is applied after its first refusal, even where the seq would follow."""
        turns, other = await claimed(engine, A), await claimed(engine, B)
        one, two, three = turns.turn({b"1": b""}), turns.turn({b"2": b""}), turns.turn({b"3": b""})
        batch = [one, three, other.turn({b"k": b""}), two, three]
        assert await engine.commit(batch) == [True, False, True, False, False]
        assert await everything(engine, A) == {b"1": b""}
        assert (await engine.claim(A)).seq == 1
