"""The contract of engines that several nodes share (`stead.storage.membership`), as tests that any such engine must pass.

An engine's author subclasses `SharedConformance` in a pytest module and overrides `open_engines`:

    class TestMyEngine(SharedConformance):
        async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
            return [await MyEngine.connect(place) for _ in range(count)]

It comes on top of `conformance.EngineConformance`, whose engine is one that has joined alone. Each test has an empty place of its
own. Leases pass by waiting on the running loop's clock: an engine in memory runs on the seeded loop, where that costs nothing (see
`run`), one with a clock of its own keeps `lease_s` short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.clock import sleep
from stead.ids import ActorId, named_id
from stead.storage.contract import AlarmRow, Commit, OwnedElsewhere
from stead.storage.membership import LeaseLost, NameTaken, NodeInfo, SharedEngine
from stead.testing.conformance import Turns, claimed, everything

MODEL_EXAMPLES = 40  # each opens engines; a few seconds on a server
LONG_LEASE_S = 600.0  # where no lease is to pass
RACES = 20  # actors that two nodes claim at once
ORPHANS = 60  # actors with alarms: so many that no node's share of them is empty by chance

A, B, C = named_id("cart", "a"), named_id("cart", "b"), named_id("cart", "c")


def node(number: int) -> NodeInfo:
    """What the node of that number says of itself."""
    labels = {"disk": "fast"} if number else {}
    return NodeInfo(f"node-{number}", f"127.0.0.1:{7000 + number}", f"http://node-{number}", "eu", labels, "digest")


class _Openable:
    """What every group of tests needs of an engine's author."""

    lease_s: ClassVar[float] = 1.0  # so long that the engine never takes half of it for a few statements

    async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
        """Override to open `count` engines, none of them joined, over the data that is kept in (or known by) `place`."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Override to run a test on another loop than asyncio's."""
        asyncio.run(work)

    async def pass_lease(self, *alive: SharedEngine) -> None:
        """Let the leases of all others but `alive` be over."""
        for _ in range(3):
            await sleep(self.lease_s * 0.4)
            for engine in alive:
                await engine.renew()


Check = Callable[..., Coroutine[Any, Any, None]]
Test = Callable[[_Openable, Path], None]


def _over(count: int, is_joined: bool = True) -> Callable[[Check], Test]:
    """Make a coroutine over so many engines, each a node, a test of plain pytest."""

    def decorate(check: Check) -> Test:
        def test(self: _Openable, tmp_path: Path) -> None:
            async def run() -> None:
                engines = await self.open_engines(tmp_path, count)
                try:
                    for number, engine in enumerate(engines if is_joined else ()):
                        await engine.join(node(number), self.lease_s)
                    await check(self, *engines)
                finally:
                    for engine in engines:
                        await engine.close()

            self.run(run())

        # Not functools.wraps: pytest would follow it and look for fixtures named like the coroutine's parameters.
        test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
        return test

    return decorate


async def refused(engine: SharedEngine, actor: ActorId) -> int:
    """Whom `engine` is sent to when it claims `actor`."""
    with pytest.raises(OwnedElsewhere) as caught:
        await engine.claim(actor)
    return caught.value.owner


async def names(engine: SharedEngine) -> list[str]:
    """Who is alive, as `engine` learns when it renews."""
    return [member.info.name for member in await engine.renew()]


class _Members(_Openable):
    @_over(3)
    async def test_renewing_tells_who_is_alive(self, *engines: SharedEngine) -> None:
        """Each node sees all, itself too, by incarnation, with what they said of themselves and what is left of their leases."""
        for engine in engines:
            members = await engine.renew()
            expected = sorted((other.incarnation, node(number)) for number, other in enumerate(engines))
            assert [(member.incarnation, member.info) for member in members] == expected
            assert not any(member.is_draining for member in members)
            left_s = {member.incarnation: member.lease_left_s for member in members}
            assert all(0 < left <= self.lease_s * 1.001 for left in left_s.values())
            assert left_s[engine.incarnation] == max(left_s.values())

    @_over(2, is_joined=False)
    async def test_incarnations(self, a: SharedEngine, b: SharedEngine) -> None:
        """Each joining has a number of its own, positive and below 2**62; before it and after leaving it is 0."""
        seen = set()
        for engine in (a, b):
            assert engine.incarnation == 0
            for _ in range(3):
                await engine.join(node(0), self.lease_s)
                seen.add(engine.incarnation)
                await engine.leave()
                assert engine.incarnation == 0
        assert len(seen) == 6
        assert all(0 < incarnation < 1 << 62 for incarnation in seen)

    @_over(1, is_joined=False)
    async def test_who_has_not_joined_owns_nothing(self, engine: SharedEngine) -> None:
        """Before joining and after leaving a claim and a renewal raise LeaseLost; leaving is nothing, and a commit is refused."""
        for _ in range(2):
            with pytest.raises(LeaseLost):
                await engine.claim(A)
            with pytest.raises(LeaseLost):
                await engine.renew()
            assert await engine.commit([Commit(A, 1, 1, {b"k": b"v"}, {}, 1, 1)]) == [False]
            await engine.leave()
            await engine.join(node(0), self.lease_s)
            await engine.leave()

    @_over(2)
    async def test_a_lease_passes(self, a: SharedEngine, b: SharedEngine) -> None:
        """Who does not renew in time is over: gone from the list, and never again alive under that incarnation."""
        before = b.incarnation
        await self.pass_lease(a)
        assert await names(a) == ["node-0"]
        for _ in range(2):
            with pytest.raises(LeaseLost):
                await b.renew()
        await b.join(node(1), self.lease_s)
        assert b.incarnation != before
        assert sorted(await names(a)) == ["node-0", "node-1"]

    @_over(2)
    async def test_renewing_keeps_alive(self, a: SharedEngine, b: SharedEngine) -> None:
        """Who renews in time stays, for longer than a lease is."""
        await self.pass_lease(a, b)
        assert sorted(await names(a)) == sorted(await names(b)) == ["node-0", "node-1"]

    @_over(2)
    async def test_leaving(self, a: SharedEngine, b: SharedEngine) -> None:
        """Who leaves is gone at once."""
        await b.leave()
        assert await names(a) == ["node-0"]

    @_over(3)
    async def test_a_name_has_one_live_node(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """A node that starts again under its name ends the lease of the one before, which learns so when it renews."""
        await c.leave()
        await c.join(node(1), self.lease_s)
        members = {member.info.name: member.incarnation for member in await a.renew()}
        assert members == {"node-0": a.incarnation, "node-1": c.incarnation}
        with pytest.raises(LeaseLost):
            await b.renew()
        assert await names(c) == await names(a)

    @_over(2)
    async def test_who_wakes_takes_no_name(self, a: SharedEngine, b: SharedEngine) -> None:
        """A node that would join without taking a name cannot while another lives under it; its own earlier life is no obstacle."""
        for _ in range(2):
            with pytest.raises(NameTaken):
                await a.join(node(1), self.lease_s, takes_name=False)
            assert sorted(await names(b)) == ["node-0", "node-1"]
        before = a.incarnation
        await a.join(node(0), self.lease_s, takes_name=False)
        assert a.incarnation != before
        assert sorted(await names(b)) == ["node-0", "node-1"]
        await self.pass_lease(a)
        await a.join(node(1), self.lease_s, takes_name=False)
        assert "node-1" in await names(a)

    @_over(2)
    async def test_who_wakes_drains_as_before(self, a: SharedEngine, b: SharedEngine) -> None:
        """What is stored of its last incarnation says whether a node that wakes drains; where nothing is, the node does."""
        await a.set_draining("node-1", True)
        for says, is_marked in ((False, True), (True, True), (True, False)):
            if not is_marked:
                await a.set_draining("node-1", False)
            await b.join(node(1), self.lease_s, takes_name=False, is_draining=says)
            assert {m.info.name: m.is_draining for m in await a.renew()} == {"node-0": False, "node-1": is_marked}
        for says in (True, False):
            await b.leave()
            await b.join(node(1), self.lease_s, takes_name=False, is_draining=says)
            assert {m.info.name: m.is_draining for m in await a.renew()} == {"node-0": False, "node-1": says}

    @_over(2)
    async def test_draining(self, a: SharedEngine, b: SharedEngine) -> None:
        """Anybody marks a live node by its name, all see it, its own renewals keep it, and a new life begins without it."""
        assert await a.set_draining("node-1", True)
        await b.renew()
        for engine in (a, b):
            assert {m.info.name: m.is_draining for m in await engine.renew()} == {"node-0": False, "node-1": True}
        assert await b.set_draining("node-1", False)
        assert not any(member.is_draining for member in await a.renew())
        await b.set_draining("node-1", True)
        await b.join(node(1), self.lease_s)
        assert not any(member.is_draining for member in await a.renew())
        await b.leave()
        assert not await a.set_draining("node-1", True)
        assert not await a.set_draining("nobody", True)


class _Owners(_Openable):
    @_over(2)
    async def test_an_owned_actor_is_elsewhere(self, a: SharedEngine, b: SharedEngine) -> None:
        """While its owner lives, another's claim names the owner and changes nothing."""
        turns = await claimed(a, A)
        assert await refused(b, A) == a.incarnation
        assert await a.commit([turns.turn({b"k": b"v"})]) == [True]
        assert await refused(b, A) == a.incarnation
        assert await a.commit([turns.turn({b"k": b"w"})]) == [True]
        assert (await claimed(b, B)).claim.seq == 0

    @_over(2)
    async def test_the_owner_may_claim_again(self, a: SharedEngine, b: SharedEngine) -> None:
        """It gets a larger epoch, which refuses its own earlier one."""
        first, second = await claimed(a, A), await claimed(a, A)
        assert second.claim.epoch > first.claim.epoch
        assert await a.commit([first.turn({b"k": b"v"})]) == [False]
        assert await a.commit([second.turn({b"k": b"v"})]) == [True]

    @_over(2)
    async def test_release_frees(self, a: SharedEngine, b: SharedEngine) -> None:
        """What is released another claims at once, with all that was committed and a larger epoch."""
        turns = await claimed(a, A)
        await a.commit([turns.turn({b"k": b"v"})])
        await a.release(A, turns.claim.epoch)
        claim = await b.claim(A)
        assert (claim.seq, claim.entries) == (1, {b"k": b"v"})
        assert claim.epoch > turns.claim.epoch
        assert await a.commit([turns.turn({b"k": b"w"})]) == [False]

    @_over(2)
    async def test_release_takes_nothing_from_others(self, a: SharedEngine, b: SharedEngine) -> None:
        """A release with another's epoch, or with an earlier one of one's own, leaves the owner."""
        first, second = await claimed(a, A), await claimed(a, A)
        await b.release(A, second.claim.epoch)
        await a.release(A, first.claim.epoch)
        assert await refused(b, A) == a.incarnation
        assert await a.commit([second.turn({b"k": b"v"})]) == [True]

    @_over(2)
    async def test_taking_over(self, a: SharedEngine, b: SharedEngine) -> None:
        """Once the owner's lease is over another claims; the old owner is fenced for ever, also when it has joined anew."""
        old = await claimed(a, A)
        assert await a.commit([old.turn({b"k": b"a"})]) == [True]
        await self.pass_lease(b)
        new = await claimed(b, A)
        assert new.claim.epoch > old.claim.epoch
        assert (new.claim.seq, new.claim.entries) == (1, {b"k": b"a"})
        stale = old.turn({b"k": b"stale"})
        assert await a.commit([stale]) == [False]
        await a.join(node(0), self.lease_s)
        assert await a.commit([stale]) == [False]
        assert await refused(a, A) == b.incarnation
        assert await b.commit([new.turn({b"k": b"b"})]) == [True]
        assert await a.commit([stale]) == [False]
        await b.release(A, new.claim.epoch)
        again = await claimed(a, A)
        assert again.claim.entries == {b"k": b"b"}
        assert await a.commit([stale, again.turn({b"k": b"again"})]) == [False, True]
        assert await everything(b, A) == {b"k": b"again"}

    @_over(2)
    async def test_time_alone_refuses_nobody(self, a: SharedEngine, b: SharedEngine) -> None:
        """An owner whose lease is over commits until another has claimed: no clock is asked whether a commit is right."""
        turns = await claimed(a, A)
        await self.pass_lease(b)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [True]
        assert (await b.claim(A)).entries == {b"k": b"v"}
        assert await a.commit([turns.turn({b"k": b"w"})]) == [False]

    @_over(2)
    async def test_joining_anew_owns_nothing(self, a: SharedEngine, b: SharedEngine) -> None:
        """What a node owned in an earlier life is free, though nobody has taken it, and its old claims commit no more."""
        turns = await claimed(a, A)
        await a.join(node(0), self.lease_s)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert await b.owner(A) is None
        assert (await b.claim(A)).epoch > turns.claim.epoch

    @_over(2)
    async def test_leaving_frees(self, a: SharedEngine, b: SharedEngine) -> None:
        """What a node owned that has left is free at once, and its claims commit no more."""
        turns = await claimed(a, A)
        await a.leave()
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert (await b.claim(A)).seq == 0

    @_over(3)
    async def test_starting_again_frees(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """What the predecessor under a name owned is free as soon as the successor joins; a claim fences the predecessor."""
        turns = await claimed(a, A)
        await c.leave()
        await c.join(node(0), self.lease_s)
        new = await claimed(b, A)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert await b.commit([new.turn({b"k": b"w"})]) == [True]

    @_over(2)
    async def test_one_taken_over_leaves_the_rest_of_a_batch(self, a: SharedEngine, b: SharedEngine) -> None:
        """In one batch the commits of actors that another has taken are refused, and only those."""
        x, y, z = [await claimed(a, actor) for actor in (A, B, C)]
        await self.pass_lease(b)
        await b.claim(B)
        batch = [x.turn({b"k": b"x"}), y.turn({b"k": b"y"}), z.turn({b"k": b"z"})]
        assert await a.commit(batch) == [True, False, True]
        assert [await everything(b, actor) for actor in (A, B, C)] == [{b"k": b"x"}, {}, {b"k": b"z"}]

    @_over(2)
    async def test_two_claim_at_once(self, a: SharedEngine, b: SharedEngine) -> None:
        """Of two claims of a free actor one succeeds, and the other names its owner; only the owner commits."""
        for actor in [named_id("race", str(number)) for number in range(RACES)]:
            attempts = await asyncio.gather(*(claimed(engine, actor) for engine in (a, b)), return_exceptions=True)
            [(winner, turns)] = [(e, t) for e, t in zip((a, b), attempts, strict=True) if isinstance(t, Turns)]
            [loss] = [attempt for attempt in attempts if isinstance(attempt, BaseException)]
            assert isinstance(loss, OwnedElsewhere), loss
            assert loss.owner == winner.incarnation == await a.owner(actor)
            assert await winner.commit([turns.turn({b"k": b"v"})]) == [True]

    @_over(2)
    async def test_taking_over_in_the_middle_of_a_commit(self, a: SharedEngine, b: SharedEngine) -> None:
        """A take-over beside a commit of the old owner sees that commit, or that commit is refused."""
        everyone = [named_id("race", str(number)) for number in range(RACES)]
        turns = [await claimed(a, actor) for actor in everyone]
        await self.pass_lease(b)
        async with asyncio.TaskGroup() as group:
            commits = [group.create_task(a.commit([turn.turn({b"k": b"v"})])) for turn in turns]
            claims = [group.create_task(b.claim(actor)) for actor in everyone]
        for commit, claim in zip(commits, claims, strict=True):
            seen = (claim.result().seq, claim.result().entries)
            assert seen == ((1, {b"k": b"v"}) if commit.result() == [True] else (0, {}))

    @_over(3)
    async def test_who_owns_what(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """`owner` and `owned` tell of live nodes only, from whichever node they are asked."""
        for engine, actor in ((a, A), (a, B), (b, C)):
            await engine.claim(actor)
        assert await c.owned() == {a.incarnation: 2, b.incarnation: 1, c.incarnation: 0}
        assert await c.owned(a.incarnation) == {a.incarnation: 2}
        assert [await c.owner(actor) for actor in (A, B, C)] == [a.incarnation, a.incarnation, b.incarnation]
        assert await c.owner(named_id("cart", "nobody's")) is None
        over = a.incarnation
        await self.pass_lease(b, c)
        assert await c.owned() == {b.incarnation: 1, c.incarnation: 0}
        assert await c.owned(over) == {}
        assert [await c.owner(actor) for actor in (A, C)] == [None, b.incarnation]

    @_over(2)
    async def test_all_see_what_is_committed(self, a: SharedEngine, b: SharedEngine) -> None:
        """The registry and the entries are everybody's to read."""
        x, y = await claimed(a, A), await claimed(b, B)
        await a.commit([x.turn({b"k": b"a"}, size_bytes=2)])
        await b.commit([y.turn({b"k": b"b"}, size_bytes=3)])
        rows = await a.actors()
        assert rows == await b.actors()
        assert [(row.actor, row.epoch, row.size_bytes) for row in rows] == [(A, x.claim.epoch, 2), (B, y.claim.epoch, 3)]
        assert await b.read(A, [b"k"]) == {b"k": b"a"}
        assert await a.scan(B, b"", None) == [(b"k", b"b")]


class _SharedAlarms(_Openable):
    @_over(2)
    async def test_an_alarm_is_its_owners(self, a: SharedEngine, b: SharedEngine) -> None:
        """While an actor has a live owner its alarms are that node's, and nobody else's."""
        turns = await claimed(a, A)
        await a.commit([turns.turn(alarms={"x": 10, "y": 20})])
        assert await a.due(99, 9) == [AlarmRow(10, A, "x"), AlarmRow(20, A, "y")]
        assert (await b.due(99, 9), await b.next_due_ms()) == ([], None)
        assert await a.next_due_ms() == 10

    @_over(3)
    async def test_orphans_are_shared_out(self, *engines: SharedEngine) -> None:
        """Each alarm of actors without owner is one live node's, in order and within the limit, however many nodes there are."""
        await self._orphans(engines[0])
        await self._shared_out(*engines)
        await engines[1].leave()
        await self._shared_out(engines[0], engines[2])

    @_over(3)
    async def test_a_dead_nodes_alarms_are_taken_over(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """Once the owner's lease is over the others have its alarms; it has none itself until it joins anew."""
        await self._orphans(a, is_released=False)
        assert len(await a.due(99_999, 999)) == ORPHANS
        await self.pass_lease(b, c)
        await self._shared_out(b, c)
        assert (await a.due(99_999, 999), await a.next_due_ms()) == ([], None)
        await a.join(node(0), self.lease_s)
        await self._shared_out(a, b, c)

    @_over(3)
    async def test_who_is_cut_off_has_no_share(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """A node that says so keeps the alarms of its own actors only, until it says otherwise or joins anew. All see it."""
        await self._orphans(a)
        turns = await claimed(c, C)
        await c.commit([turns.turn(alarms={"own": 7})])
        await c.renew(is_cut_off=True)
        await c.renew()
        said = {member.info.name: member.is_cut_off for member in await a.renew()}
        assert said == {"node-0": False, "node-1": False, "node-2": True}
        await b.renew()
        await self._shared_out(a, b)
        assert await c.due(99_999, 999) == [AlarmRow(7, C, "own")]
        assert await c.next_due_ms() == 7
        await c.commit([turns.turn(alarms={"own": None})])
        await c.renew(is_cut_off=False)
        await self._shared_out(a, b, c)
        await c.renew(is_cut_off=True)
        await c.join(node(2), self.lease_s)
        await self._shared_out(a, b, c)
        for engine in (a, b, c):
            await engine.renew(is_cut_off=True)
        assert [await engine.next_due_ms() for engine in (a, b, c)] == [None] * 3

    @_over(2)
    async def test_others_alarms_hide_none(self, a: SharedEngine, b: SharedEngine) -> None:
        """A limit counts the caller's own alarms: those of others that are due earlier take no place."""
        first, second = await claimed(a, A), await claimed(b, B)
        await a.commit([first.turn(alarms={str(number): number for number in range(20)})])
        await b.commit([second.turn(alarms={"x": 50})])
        assert await b.due(99, 1) == [AlarmRow(50, B, "x")]
        assert await b.next_due_ms() == 50

    @staticmethod
    async def _orphans(engine: SharedEngine, is_released: bool = True) -> None:
        everyone = [named_id("orphan", str(number)) for number in range(ORPHANS)]
        for number, actor in enumerate(everyone):
            turns = await claimed(engine, actor)
            await engine.commit([turns.turn(alarms={"": number})])
            if is_released:
                await engine.release(actor, turns.claim.epoch)

    @staticmethod
    async def _shared_out(*live: SharedEngine) -> None:
        shares = [await engine.due(99_999, 999) for engine in live]
        assert all(shares), "a node without a share"
        assert sorted(row.due_ms for share in shares for row in share) == list(range(ORPHANS))
        for engine, share in zip(live, shares, strict=True):
            assert share == sorted(share, key=lambda row: row.due_ms)
            assert await engine.next_due_ms() == share[0].due_ms
            assert await engine.due(share[1].due_ms, 999) == await engine.due(99_999, 2) == share[:2]


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


class _SharedModel(_Openable):
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


class SharedConformance(_Members, _Owners, _SharedAlarms, _SharedModel):
    """Subclass it in a pytest module and override `open_engines`. The tests are its methods."""
