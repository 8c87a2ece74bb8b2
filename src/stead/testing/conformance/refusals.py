"""What an engine makes of a commit whose content it cannot store, and of those that share its batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stead.errors import EngineFailed
from stead.storage.contract import Engine, Refused
from stead.testing.conformance.opening import Openable, checked
from stead.testing.conformance.turns import A, B, C, Turns, claimed, everything


class Refusals(Openable):
    """Tests of an engine that refuses single commits for what they hold."""

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
