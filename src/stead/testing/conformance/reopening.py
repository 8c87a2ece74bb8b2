"""What the end of an engine leaves to the next one over the same place."""

from __future__ import annotations

import asyncio

import pytest

from stead.errors import EngineFailed
from stead.storage.contract import AlarmRow, Engine
from stead.testing.conformance.opening import Openable, Reopen, reopened
from stead.testing.conformance.turns import A, B, claimed, everything


class Reopening(Openable):
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
