"""The engine contract (`stead.storage.contract`) as tests that any engine must pass.

An engine's author subclasses `EngineConformance` in a pytest module and overrides `open_engine`:

    class TestMyEngine(_Openable):
        async def open_engine(self, place: Path) -> Engine:
            return await MyEngine.connect(place)

Each test opens an engine in an empty place of its own. An engine that cannot be opened again over the same place sets `reopens`
to False; one that refuses single commits for what they hold is tested by `RefusingConformance`. It runs under plain pytest and
needs `hypothesis`; a failure repeats, because nothing in it is left to chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.codec import VALUE_BYTES_MAX
from stead.errors import EngineFailed
from stead.ids import ActorId, Chance, named_id, unique_id
from stead.storage.contract import (
    BATCH_COMMITS_MAX,
    KEY_BYTES_MAX,
    LOAD_BYTES_MAX,
    ActorRow,
    AlarmRow,
    Claim,
    Commit,
    Engine,
    Refused,
)

MODEL_EXAMPLES = 60  # each opens an engine; a few seconds on a disk
NASTY_NAMES = ("a/b", "a%2Fb", "a", "b", "é", "e\u0301", " ", "a ", "a~b", "A", "'; DROP TABLE", "%", "_", "🛒", "x" * 1024)


class _Openable:
    """What every group of tests needs of an engine's author."""

    reopens: ClassVar[bool] = True

    async def open_engine(self, place: Path) -> Engine:
        """Override to open the engine whose data is kept in (or known by) `place`, an existing directory."""
        raise NotImplementedError


Check = Callable[[Any, Engine], Coroutine[Any, Any, None]]
Reopen = Callable[[], Coroutine[Any, Any, Engine]]


def checked(check: Check) -> Callable[[_Openable, Path], None]:
    """Make a coroutine over a fresh engine a test of plain pytest."""

    def test(self: _Openable, tmp_path: Path) -> None:
        async def run() -> None:
            engine = await self.open_engine(tmp_path)
            try:
                await check(self, engine)
            finally:
                await engine.close()

        asyncio.run(run())

    return _named_like(check, test)


def reopened(
    check: Callable[[Any, Engine, Reopen], Coroutine[Any, Any, None]],
) -> Callable[[_Openable, Path], None]:
    """As `checked`, with a function that closes the engine and opens the same place again."""

    def test(self: _Openable, tmp_path: Path) -> None:
        if not self.reopens:
            pytest.skip("the engine cannot be opened again")

        async def run() -> None:
            engine = await self.open_engine(tmp_path)

            async def reopen() -> Engine:
                nonlocal engine
                await engine.close()
                engine = await self.open_engine(tmp_path)
                return engine

            try:
                await check(self, engine, reopen)
            finally:
                await engine.close()

        asyncio.run(run())

    return _named_like(check, test)


def _named_like(check: Callable[..., Any], test: Callable[[_Openable, Path], None]) -> Callable[[_Openable, Path], None]:
    # Not functools.wraps: pytest would follow it and look for fixtures named like the coroutine's parameters.
    test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
    return test


@dataclass
class Turns:
    """The turns of one claim: makes its commits, numbered."""

    actor: ActorId
    claim: Claim
    at_ms: int = 1_000
    seq: int = field(init=False)

    def __post_init__(self) -> None:
        self.seq = self.claim.seq

    def turn(
        self,
        writes: Mapping[bytes, bytes | None] | None = None,
        *,
        alarms: Mapping[str, int | None] | None = None,
        erase: bool = False,
        size_bytes: int = 1,
    ) -> Commit:
        """The next commit."""
        self.seq += 1
        return Commit(self.actor, self.claim.epoch, self.seq, writes or {}, alarms or {}, size_bytes, self.at_ms + self.seq, erase)


async def claimed(engine: Engine, actor: ActorId) -> Turns:
    """Claim `actor` and go on from its last commit."""
    return Turns(actor, await engine.claim(actor))


async def everything(engine: Engine, actor: ActorId) -> dict[bytes, bytes]:
    """All entries of `actor`, by scan."""
    return dict(await engine.scan(actor, b"", None))


def texts(rows: Iterable[ActorRow]) -> list[str]:
    return [row.actor.text for row in rows]


A, B, C = named_id("cart", "a"), named_id("cart", "b"), named_id("cart", "c")


class _Claims(_Openable):
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


class _Fencing(_Openable):
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


class _Refusals(_Openable):
    unstorable: ClassVar[Mapping[bytes, bytes]]

    @checked
    async def test_what_cannot_be_stored_is_refused_alone(self, engine: Engine) -> None:
        """Its commit says why, and what follows it in its claim is not applied; all others are, and a fenced one is just False."""
        stale, a, b, c = [await claimed(engine, actor) for actor in (C, A, B, C)]
        poisoned = [b.turn({b"k": b"before"}), b.turn({**self.unstorable, b"k": b"with it"}), b.turn({b"k": b"behind"})]
        batch = [a.turn({b"k": b"a"}), *poisoned, stale.turn({b"k": b"stale"}), c.turn({b"k": b"c"})]
        verdicts = await engine.commit(batch)
        assert [bool(verdict) for verdict in verdicts] == [True, True, False, False, False, True]
        refused = verdicts[2]
        assert isinstance(refused, Refused), "it looks like a fenced one"
        assert isinstance(refused.error, EngineFailed) and str(refused.error)
        assert verdicts[4] is False, "it was fenced, and nothing is wrong with what it holds"
        assert [await everything(engine, actor) for actor in (A, B, C)] == [{b"k": b"a"}, {b"k": b"before"}, {b"k": b"c"}]
        await self._go_on(engine, b, 1)

    @checked
    async def test_a_batch_of_what_cannot_be_stored(self, engine: Engine) -> None:
        """It raises, or refuses each; nothing of it is there."""
        a, b = await claimed(engine, A), await claimed(engine, B)
        try:
            verdicts = await engine.commit([a.turn(self.unstorable), b.turn(self.unstorable), b.turn({b"k": b"behind"})])
        except EngineFailed:
            pass
        else:
            assert not any(verdicts) and all(isinstance(verdict, Refused) for verdict in verdicts[:2])
        for turns in (a, b):
            assert await everything(engine, turns.actor) == {}
            await self._go_on(engine, turns, 0)

    @staticmethod
    async def _go_on(engine: Engine, turns: Turns, seq: int) -> None:
        """Whose commit was refused is the owner still, and commits under the number that is free."""
        turns.seq = seq
        assert await engine.commit([turns.turn({b"k": b"after"})]) == [True]
        claim = await engine.claim(turns.actor)
        assert (claim.seq, claim.entries) == (seq + 1, {b"k": b"after"})


class _Commits(_Openable):
    @checked
    async def test_empty_batch(self, engine: Engine) -> None:
        """A batch of nothing is applied at once."""
        assert await engine.commit([]) == []

    @checked
    async def test_empty_commit_counts(self, engine: Engine) -> None:
        """A commit that writes nothing still advances seq, size and activity."""
        turns = await claimed(engine, A)
        assert await engine.commit([turns.turn(size_bytes=3)]) == [True]
        assert await engine.commit([turns.turn(size_bytes=4)]) == [True]
        claim = await engine.claim(A)
        assert (claim.seq, claim.size_bytes) == (2, 4)

    @checked
    async def test_put_overwrite_delete(self, engine: Engine) -> None:
        """Values are replaced and deleted; deleting what is not there is nothing."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"a": b"1", b"b": b"2", b"c": b"3"})])
        await engine.commit([turns.turn({b"a": b"one", b"b": None, b"nothing": None})])
        assert await everything(engine, A) == {b"a": b"one", b"c": b"3"}

    @checked
    async def test_several_commits_of_one_actor_in_a_batch(self, engine: Engine) -> None:
        """They apply in order: the last word on each key and alarm counts."""
        turns = await claimed(engine, A)
        batch = [
            turns.turn({b"a": b"1", b"b": b"1", b"c": None}, alarms={"x": 10, "y": 10}),
            turns.turn({b"a": b"2", b"b": None, b"c": b"2"}, alarms={"x": None, "z": 20}),
            turns.turn({b"a": b"3"}, alarms={"x": 30, "z": None}, size_bytes=9),
        ]
        assert await engine.commit(batch) == [True] * 3
        assert await everything(engine, A) == {b"a": b"3", b"c": b"2"}
        assert await engine.due(99, 9) == [AlarmRow(10, A, "y"), AlarmRow(30, A, "x")]
        [row] = await engine.actors()
        assert (row.seq, row.size_bytes, row.created_ms, row.active_ms) == (3, 9, 1_001, 1_003)

    @checked
    async def test_erase(self, engine: Engine) -> None:
        """Erasing drops every entry and alarm, then applies the commit's own writes; seq and creation time go on."""
        a, b = await claimed(engine, A), await claimed(engine, B)
        await engine.commit([a.turn({b"k": b"v", b"l": b"w"}, alarms={"x": 5}), b.turn({b"k": b"v"}, alarms={"x": 6})])
        erasing = a.turn({b"new": b"n", b"k": None}, alarms={"y": 7, "x": None}, erase=True)
        assert await engine.commit([erasing]) == [True]
        assert await everything(engine, A) == {b"new": b"n"}
        assert await everything(engine, B) == {b"k": b"v"}
        assert await engine.due(99, 9) == [AlarmRow(6, B, "x"), AlarmRow(7, A, "y")]
        assert [(row.seq, row.created_ms) for row in await engine.actors()] == [(2, 1_001), (1, 1_001)]

    @checked
    async def test_erase_among_commits_of_one_batch(self, engine: Engine) -> None:
        """What came before the erasing commit is gone, what comes after it stays."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"old": b""}, alarms={"old": 1})])
        batch = [
            turns.turn({b"before": b""}, alarms={"before": 2}),
            turns.turn({b"with": b"", b"late": b""}, alarms={"with": 3}, erase=True),
            turns.turn({b"after": b"", b"late": None}, alarms={"after": 4}),
        ]
        assert await engine.commit(batch) == [True] * 3
        assert await everything(engine, A) == {b"with": b"", b"after": b""}
        assert [row.name for row in await engine.due(99, 9)] == ["with", "after"]

    @checked
    async def test_emptied_actor_keeps_its_seq(self, engine: Engine) -> None:
        """An actor with nothing left is unlisted, yet its seq is remembered: history never starts again."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"})])
        await engine.commit([turns.turn(erase=True, size_bytes=0)])
        assert await engine.actors() == []
        claim = await engine.claim(A)
        assert (claim.seq, claim.size_bytes, claim.entries) == (2, 0, {})

    @checked
    async def test_largest_keys_and_values(self, engine: Engine) -> None:
        """A value and a key at their limits, and bytes of every kind, come back as they were."""
        turns = await claimed(engine, A)
        writes = {b"v": bytes(range(256)) * (VALUE_BYTES_MAX // 256), b"\xff" * KEY_BYTES_MAX: b"long", b"\0": b"\0"}
        assert await engine.commit([turns.turn(writes, size_bytes=VALUE_BYTES_MAX)]) == [True]
        assert await engine.read(A, list(writes)) == writes
        assert await everything(engine, A) == writes

    @checked
    async def test_largest_batch(self, engine: Engine) -> None:
        """BATCH_COMMITS_MAX commits, each of several entries, are one batch."""
        everyone = [await claimed(engine, named_id("many", f"{number:05}")) for number in range(BATCH_COMMITS_MAX)]
        writes = {b"%d" % number: b"v" for number in range(5)}
        assert await engine.commit([turns.turn(writes, alarms={"": 9}) for turns in everyone]) == [True] * len(everyone)
        assert len(await engine.actors(limit=10_000)) == BATCH_COMMITS_MAX
        assert len(await engine.due(9, 10_000)) == BATCH_COMMITS_MAX
        drop: dict[bytes, bytes | None] = dict.fromkeys(writes)
        await engine.commit([turns.turn({**drop, b"0": b"kept"}, alarms={"": None}) for turns in everyone])
        assert await everything(engine, everyone[-1].actor) == {b"0": b"kept"}
        assert await engine.next_due_ms() is None

    @checked
    async def test_batches_under_way_together(self, engine: Engine) -> None:
        """Batches of different actors that are sent without waiting are all applied, and each is answered for its own."""
        everyone = [await claimed(engine, named_id("beside", str(number))) for number in range(20)]
        stale, everyone[3] = everyone[3], await claimed(engine, everyone[3].actor)
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(engine.commit([turns.turn({b"k": b"v"})])) for turns in everyone]
            fenced = group.create_task(engine.commit([stale.turn({b"k": b"stale"})]))
        assert [answer.result() for answer in answers] == [[True]] * 20
        assert fenced.result() == [False]
        assert [await everything(engine, turns.actor) for turns in everyone] == [{b"k": b"v"}] * 20


class _Reads(_Openable):
    @checked
    async def test_read(self, engine: Engine) -> None:
        """Only keys that exist are answered; an empty value exists; keys are matched whole and never across actors."""
        a, b = await claimed(engine, A), await claimed(engine, B)
        await engine.commit([a.turn({b"k": b"", b"kk": b"2"}), b.turn({b"x": b"b"})])
        assert await engine.read(A, [b"k", b"kk", b"kkk", b"x"]) == {b"k": b"", b"kk": b"2"}
        assert await engine.read(A, []) == {}
        assert await engine.read(A, [b"", b"k"]) == {b"k": b""}

    @checked
    async def test_scan_order_bounds_and_limits(self, engine: Engine) -> None:
        """Scans go by key bytes, from start (inside) to end (outside), either way, up to the limit."""
        keys = [b"", b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
        turns, other = await claimed(engine, A), await claimed(engine, B)
        await engine.commit([turns.turn({key: b"v" + key for key in reversed(keys)}), other.turn({b"a1": b"other"})])
        for start in (b"", b"a", b"a\x01", b"\xff\xff\xff"):
            for end in (None, b"", b"a", b"b", b"\x80", b"\xff\xff\xff"):
                inside = [(key, b"v" + key) for key in sorted(keys) if start <= key and (end is None or key < end)]
                assert await engine.scan(A, start, end) == inside
                assert await engine.scan(A, start, end, reverse=True) == inside[::-1]
                for limit in (0, 1, 3, 100):
                    assert await engine.scan(A, start, end, limit=limit) == inside[:limit]
                    assert await engine.scan(A, start, end, reverse=True, limit=limit) == inside[::-1][:limit]


class _Alarms(_Openable):
    @checked
    async def test_due_order_bounds_and_ties(self, engine: Engine) -> None:
        """Due alarms come earliest first, ties by the actor's id and then by name, up to the limit; the bound is inside."""
        b, a = await claimed(engine, B), await claimed(engine, A)
        await engine.commit([b.turn(alarms={"z": 10, "": 10, "é": 10, "early": -5}), a.turn(alarms={"b": 10, "a": 11})])
        rows = [(-5, B, "early"), (10, A, "b"), (10, B, ""), (10, B, "z"), (10, B, "é"), (11, A, "a")]
        expected = [AlarmRow(*row) for row in rows]
        assert await engine.due(11, 100) == expected
        assert await engine.due(10, 100) == expected[:5]
        assert await engine.due(9, 100) == expected[:1]
        assert await engine.due(11, 2) == expected[:2]
        assert await engine.due(11, 0) == []
        assert await engine.next_due_ms() == -5

    @checked
    async def test_alarms_move_and_go(self, engine: Engine) -> None:
        """An alarm set again moves; one removed is gone; removing none is nothing; reading the index consumes nothing."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn(alarms={"x": 10, "y": 20})])
        await engine.commit([turns.turn(alarms={"x": 30, "nothing": None})])
        assert await engine.next_due_ms() == 20
        assert await engine.due(99, 9) == await engine.due(99, 9) == [AlarmRow(20, A, "y"), AlarmRow(30, A, "x")]
        await engine.commit([turns.turn(alarms={"x": None, "y": None})])
        assert await engine.due(99, 9) == []
        assert await engine.next_due_ms() is None


class _Registry(_Openable):
    @checked
    async def test_rows(self, engine: Engine) -> None:
        """A line shows the id, the epoch and seq of the last commit, its size, and when it was first and last written."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"}, size_bytes=2)])
        turns = await claimed(engine, A)
        turns.at_ms = 5_000
        await engine.commit([turns.turn({b"k": b"vv"}, size_bytes=3)])
        assert await engine.actors() == [ActorRow(A, turns.claim.epoch, 2, 3, 1_001, 5_002)]

    @checked
    async def test_order_pages_and_filters(self, engine: Engine) -> None:
        """Lists go by the id's text; unit, name prefix, position and limit narrow them, and pages join without a gap."""
        chance = Chance(1)
        everyone = [named_id("cart", name) for name in NASTY_NAMES]
        everyone += [named_id(unit, name) for unit in ("car", "cart-old", "carta") for name in ("a", "b")]
        everyone += [unique_id(unit, chance) for unit in ("cart", "cart", "zoo")]
        await engine.commit([(await claimed(engine, actor)).turn() for actor in everyone])
        emptied = await claimed(engine, named_id("cart", "emptied"))
        await engine.commit([emptied.turn(size_bytes=0)])
        for unit in (None, "cart", "car", "carta", "zoo", "none"):
            for prefix in ("", "a", "a%", "é", "_", "none"):
                matching = sorted(
                    actor.text
                    for actor in everyone
                    if unit in {None, actor.unit} and (not prefix or (actor.name or "").startswith(prefix))
                )
                assert texts(await engine.actors(unit, prefix=prefix)) == matching
                assert texts(await engine.actors(unit, prefix=prefix, limit=2)) == matching[:2]
                for position in ("cart/a", "cart/b", "cart~", "cart/nobody", "zzz"):
                    after = [text for text in matching if text > position]
                    assert texts(await engine.actors(unit, prefix=prefix, after=position)) == after
        assert await self._pages(engine, 3) == sorted(actor.text for actor in everyone)

    @staticmethod
    async def _pages(engine: Engine, limit: int) -> list[str]:
        seen: list[str] = []
        while rows := await engine.actors(limit=limit, after=seen[-1] if seen else ""):
            seen += texts(rows)
        return seen

    @checked
    async def test_nasty_names_never_meet(self, engine: Engine) -> None:
        """Actors whose names look alike keep their own entries and alarms, and come back with their own names."""
        everyone = [named_id("cart", name) for name in NASTY_NAMES] + [unique_id("cart", Chance(seed)) for seed in (1, 2)]
        batch = [(await claimed(engine, actor)).turn({b"k": actor.text.encode()}, alarms={"": 1}) for actor in everyone]
        assert await engine.commit(batch) == [True] * len(everyone)
        for actor in everyone:
            assert (await engine.claim(actor)).entries == {b"k": actor.text.encode()}
        assert [row.actor for row in await engine.due(1, 100)] == sorted(everyone, key=lambda actor: actor.text)
        assert {(row.actor.unit, row.actor.name) for row in await engine.actors()} == {
            (actor.unit, actor.name) for actor in everyone
        }


class _Reopening(_Openable):
    @reopened
    async def test_everything_committed_is_there_again(self, engine: Engine, reopen: Reopen) -> None:
        """After closing and opening again entries, alarms, registry and seq are as they were."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v", b"gone": b""}, alarms={"x": 10}, size_bytes=2)])
        await engine.commit([turns.turn({b"gone": None}, size_bytes=2)])
        rows = await engine.actors()
        engine = await reopen()
        assert await engine.actors() == rows
        assert await engine.due(10, 10) == [AlarmRow(10, A, "x")]
        claim = await engine.claim(A)
        assert (claim.seq, claim.size_bytes, claim.entries) == (2, 2, {b"k": b"v"})

    @reopened
    async def test_epochs_grow_over_openings(self, engine: Engine, reopen: Reopen) -> None:
        """An epoch of an earlier opening is smaller than each of a later one and can commit no more."""
        before = await claimed(engine, A)
        assert await engine.commit([before.turn({b"k": b"v"})]) == [True]
        unstored = await claimed(engine, B)  # nothing of this claim was ever written
        engine = await reopen()
        assert await engine.commit([before.turn({b"k": b"w"}), unstored.turn({b"k": b"w"})]) == [False, False]
        for earlier in (before, unstored):
            assert (await engine.claim(earlier.actor)).epoch > earlier.claim.epoch
        assert await engine.commit([before.turn({b"k": b"w"})]) == [False]

    @reopened
    async def test_closing_ends_what_is_under_way(self, engine: Engine, reopen: Reopen) -> None:
        """A commit under way when the engine closes is answered, and what was answered True is there afterwards."""
        turns = await claimed(engine, A)
        async with asyncio.TaskGroup() as group:
            commit = group.create_task(engine.commit([turns.turn({b"k": b"v"})]))
            closing = group.create_task(reopen())
        assert await everything(closing.result(), A) == ({b"k": b"v"} if commit.result() == [True] else {})

    @reopened
    async def test_closed_engine_refuses(self, engine: Engine, reopen: Reopen) -> None:
        """After close a commit raises EngineFailed; it does not wait for ever. Closing twice is nothing."""
        turns = await claimed(engine, A)
        await reopen()
        await engine.close()
        with pytest.raises(EngineFailed):
            await engine.commit([turns.turn({b"k": b"v"})])


NAMES, KEYS = ("a", "b", "ab"), (b"", b"a", b"a\0", b"b", b"\xff")
ACTORS = [named_id("model", name) for name in NAMES] + [unique_id("model", Chance(7))]


@dataclass
class Turn:
    """One step of the model test: what an actor's turn does, and what is wrong with it."""

    actor: int
    writes: dict[bytes, bytes | None]
    alarms: dict[str, int | None]
    erase: bool
    fault: str  # "" none, "epoch" an earlier claim's, "seq" skips one


TURN = st.builds(
    Turn,
    st.integers(0, len(ACTORS) - 1),
    st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=3), max_size=4),
    st.dictionaries(st.sampled_from(("", "x", "y")), st.none() | st.integers(0, 5), max_size=2),
    st.sampled_from((False, False, False, True)),
    st.sampled_from(("", "", "", "", "", "epoch", "seq")),
)
STEP = st.lists(TURN, max_size=8) | st.integers(0, len(ACTORS) - 1)  # a batch, or a new claim


class ModelActor:
    """An actor as plain dictionaries, and its present claim."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.alarms: dict[str, int] = {}
        self.seq = 0
        self.epoch = 0

    def plan(self, turn: Turn, at_ms: int) -> Commit:
        """The commit for `turn`; applied here as well unless it is at fault."""
        actor = ACTORS[turn.actor]
        if turn.fault == "epoch":
            return Commit(actor, self.epoch - 1, self.seq + 1, turn.writes, turn.alarms, 1, at_ms, turn.erase)
        if turn.fault == "seq":
            return Commit(actor, self.epoch, self.seq + 2, turn.writes, turn.alarms, 1, at_ms, turn.erase)
        self.seq += 1
        entries = {**({} if turn.erase else self.entries), **turn.writes}
        alarms = {**({} if turn.erase else self.alarms), **turn.alarms}
        self.entries = {key: value for key, value in entries.items() if value is not None}
        self.alarms = {name: due_ms for name, due_ms in alarms.items() if due_ms is not None}
        return Commit(actor, self.epoch, self.seq, turn.writes, turn.alarms, self.size_bytes, at_ms, turn.erase)

    @property
    def size_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self.entries.items())


class _Model(_Openable):
    def test_model(self, tmp_path: Path) -> None:
        """Over random batches, claims, faults and (where it can) openings an engine equals a model of dictionaries."""
        places = (tmp_path / str(number) for number in count())

        @settings(
            max_examples=MODEL_EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(STEP, max_size=12))
        def follow(steps: list[list[Turn] | int]) -> None:
            place = next(places)
            place.mkdir()
            asyncio.run(self._follow(place, steps))

        follow()

    async def _follow(self, place: Path, steps: list[list[Turn] | int]) -> None:
        engine = await self.open_engine(place)
        model = [ModelActor() for _ in ACTORS]
        try:
            for actor in range(len(ACTORS)):
                await self._claim(engine, model, actor)
            for at_ms, step in enumerate(steps):
                if isinstance(step, int):
                    await self._claim(engine, model, step)
                else:
                    await self._commit(engine, model, step, at_ms)
            await self._compare(engine, model)
            if self.reopens:
                await engine.close()
                engine = await self.open_engine(place)
                await self._compare(engine, model)
        finally:
            await engine.close()

    @staticmethod
    async def _claim(engine: Engine, model: list[ModelActor], actor: int) -> None:
        claim, expected = await engine.claim(ACTORS[actor]), model[actor]
        assert claim.epoch > expected.epoch
        assert (claim.seq, claim.size_bytes, claim.entries) == (expected.seq, expected.size_bytes, expected.entries)
        expected.epoch = claim.epoch

    @staticmethod
    async def _commit(engine: Engine, model: list[ModelActor], turns: list[Turn], at_ms: int) -> None:
        refused: set[tuple[int, bool]] = set()
        batch, expected = [], []
        for turn in turns:
            is_stale = turn.fault == "epoch"
            if turn.fault:
                refused.add((turn.actor, is_stale))
            elif (turn.actor, False) in refused:
                continue  # what follows a refusal is a matter of its own test
            expected.append(not turn.fault)
            batch.append(model[turn.actor].plan(turn, at_ms))
        assert list(await engine.commit(batch)) == expected

    @staticmethod
    async def _compare(engine: Engine, model: list[ModelActor]) -> None:
        for actor, expected in zip(ACTORS, model, strict=True):
            rows = sorted(expected.entries.items())
            assert await engine.scan(actor, b"", None) == rows
            assert await engine.scan(actor, b"a", b"b", reverse=True) == [row for row in rows if b"a" <= row[0] < b"b"][::-1]
            assert await engine.read(actor, KEYS) == expected.entries
        by_text = sorted(zip(ACTORS, model, strict=True), key=lambda pair: pair[0].text)
        listed = [(actor, m.seq, m.size_bytes) for actor, m in by_text if m.size_bytes]
        assert [(row.actor, row.seq, row.size_bytes) for row in await engine.actors()] == listed
        due = [(due_ms, actor.text, name) for actor, m in by_text for name, due_ms in m.alarms.items()]
        assert [(row.due_ms, row.actor.text, row.name) for row in await engine.due(5, 100)] == sorted(due)
        assert await engine.next_due_ms() == (min(due)[0] if due else None)


class EngineConformance(_Claims, _Fencing, _Commits, _Reads, _Alarms, _Registry, _Reopening, _Model):
    """Subclass it in a pytest module and override `open_engine`. The tests are its methods."""


class RefusingConformance(EngineConformance, _Refusals):
    """The same, of an engine that refuses single commits for what they hold: set `unstorable` to such writes."""
