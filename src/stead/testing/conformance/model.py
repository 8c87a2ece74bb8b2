"""An engine beside a model of dictionaries, over random batches, claims, faults and openings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.ids import Chance, named_id, unique_id
from stead.storage.contract import Commit, Engine
from stead.testing.conformance.opening import Openable

MODEL_EXAMPLES = 60  # each opens an engine; a few seconds on a disk
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


class Model(Openable):
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
