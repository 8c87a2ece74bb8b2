"""What a batch of commits makes of entries, alarms and the registry."""

from __future__ import annotations

import asyncio

from stead.codec import VALUE_BYTES_MAX
from stead.ids import named_id
from stead.storage.contract import BATCH_COMMITS_MAX, KEY_BYTES_MAX, AlarmRow, Engine
from stead.testing.conformance.opening import Openable, checked
from stead.testing.conformance.turns import A, B, claimed, everything


class Commits(Openable):
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
