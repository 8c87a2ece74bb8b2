"""Several engines beside a model, over random claims, commits, releases, leaving and joining."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.ids import ActorId
from stead.storage.contract import Commit
from stead.storage.membership import LeaseLost, SharedEngine
from stead.testing.conformance.turns import A, B, Turns, claimed, everything
from stead.testing.conformance_shared.opening import Openable, node
from stead.testing.conformance_shared.owners import refused

MODEL_EXAMPLES = 40  # each opens engines; a few seconds on a server
LONG_LEASE_S = 600.0  # where no lease is to pass
NODES = 3
ACTORS = (A, B)
STEP = st.tuples(st.sampled_from(("claim", "claim", "commit", "commit", "late", "release", "leave", "join")), st.integers(0, 5))


class _Life:
    """One actor as all nodes should see it: whose it is, and every claim that was ever made."""

    def __init__(self) -> None:
        self.owner: int | None = None  # a node's number
        self.claims: list[tuple[int, Turns]] = []  # the last one is the present one, if there is an owner
        self.values: list[bytes] = []

    def commit(self, which: int) -> tuple[int, Commit, bool]:
        """The next commit of a claim, by its place from the end: whose, what, and whether it should be applied."""
        number, turns = self.claims[-1 - which % len(self.claims)]
        is_present = self.owner is not None and turns is self.claims[-1][1]
        turns.seq = len(self.values)
        value = str(len(self.values)).encode()
        if is_present:
            self.values.append(value)
        return number, turns.turn({b"k": value}), is_present


class SharedModel(Openable):
    def test_owners_change(self, tmp_path: Path) -> None:
        """Over random claims, commits, releases, leaving and joining of nodes an engine equals a model."""
        number = 0

        @settings(
            max_examples=MODEL_EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.lists(STEP, max_size=30))
        def follow(steps: list[tuple[str, int]]) -> None:
            nonlocal number
            number += 1
            place = tmp_path / str(number)
            place.mkdir()
            self.run(self._follow(place, steps))

        follow()

    async def _follow(self, place: Path, steps: list[tuple[str, int]]) -> None:
        engines = await self.open_engines(place, NODES)
        lives = {actor: _Life() for actor in ACTORS}
        try:
            for number, engine in enumerate(engines):
                await engine.join(node(number), LONG_LEASE_S)
            for step, choice in steps:
                number, actor = choice % NODES, ACTORS[choice % len(ACTORS)]
                if step in {"leave", "join"}:
                    await self._end(engines[number], number, step, lives)
                else:
                    await self._act(engines, number, step, actor, lives[actor])
            for actor, life in lives.items():
                assert [await engine.owner(actor) for engine in engines] == [
                    None if life.owner is None else engines[life.owner].incarnation
                ] * NODES
                assert await everything(engines[0], actor) == ({b"k": life.values[-1]} if life.values else {})
        finally:
            for engine in engines:
                await engine.close()

    @staticmethod
    async def _end(engine: SharedEngine, number: int, step: str, lives: dict[ActorId, _Life]) -> None:
        if step == "leave":
            await engine.leave()
        else:
            await engine.join(node(number), LONG_LEASE_S)
        for life in lives.values():
            if life.owner == number:
                life.owner = None

    @staticmethod
    async def _act(engines: list[SharedEngine], number: int, step: str, actor: ActorId, life: _Life) -> None:
        engine = engines[number]
        if step == "claim" and not engine.incarnation:
            with pytest.raises(LeaseLost):
                await engine.claim(actor)
        elif step == "claim" and life.owner not in {None, number}:
            assert await refused(engine, actor) == engines[life.owner or 0].incarnation
        elif step == "claim":
            turns = await claimed(engine, actor)
            assert turns.claim.seq == len(life.values)
            assert all(turns.claim.epoch > earlier.claim.epoch for _, earlier in life.claims)
            life.owner = number
            life.claims.append((number, turns))
        elif step == "release" and life.claims:
            owner, turns = life.claims[-1]
            await engine.release(actor, turns.claim.epoch)
            if life.owner == owner == number:
                life.owner = None
        elif life.claims:
            owner, commit, is_applied = life.commit(0 if step == "commit" else 1 + number)
            assert await engines[owner].commit([commit]) == [is_applied]
