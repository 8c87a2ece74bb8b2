"""Who may commit: of all claims by several nodes one at a time, and no clock decides."""

from __future__ import annotations

import asyncio

import pytest

from stead.ids import ActorId, named_id
from stead.storage.contract import OwnedElsewhere
from stead.storage.membership import SharedEngine
from stead.testing.conformance.turns import A, B, C, Turns, claimed, everything
from stead.testing.conformance_shared.opening import Openable, node, over

RACES = 20  # actors that two nodes claim at once


async def refused(engine: SharedEngine, actor: ActorId) -> int:
    """Whom `engine` is sent to when it claims `actor`."""
    with pytest.raises(OwnedElsewhere) as caught:
        await engine.claim(actor)
    return caught.value.owner


class Owners(Openable):
    @over(2)
    async def test_an_owned_actor_is_elsewhere(self, a: SharedEngine, b: SharedEngine) -> None:
        """While its owner lives, another's claim names the owner and changes nothing."""
        turns = await claimed(a, A)
        assert await refused(b, A) == a.incarnation
        assert await a.commit([turns.turn({b"k": b"v"})]) == [True]
        assert await refused(b, A) == a.incarnation
        assert await a.commit([turns.turn({b"k": b"w"})]) == [True]
        assert (await claimed(b, B)).claim.seq == 0

    @over(2)
    async def test_the_owner_may_claim_again(self, a: SharedEngine, b: SharedEngine) -> None:
        """It gets a larger epoch, which refuses its own earlier one."""
        first, second = await claimed(a, A), await claimed(a, A)
        assert second.claim.epoch > first.claim.epoch
        assert await a.commit([first.turn({b"k": b"v"})]) == [False]
        assert await a.commit([second.turn({b"k": b"v"})]) == [True]

    @over(2)
    async def test_release_frees(self, a: SharedEngine, b: SharedEngine) -> None:
        """What is released another claims at once, with all that was committed and a larger epoch."""
        turns = await claimed(a, A)
        await a.commit([turns.turn({b"k": b"v"})])
        await a.release(A, turns.claim.epoch)
        claim = await b.claim(A)
        assert (claim.seq, claim.entries) == (1, {b"k": b"v"})
        assert claim.epoch > turns.claim.epoch
        assert await a.commit([turns.turn({b"k": b"w"})]) == [False]

    @over(2)
    async def test_release_takes_nothing_from_others(self, a: SharedEngine, b: SharedEngine) -> None:
        """A release with another's epoch, or with an earlier one of one's own, leaves the owner."""
        first, second = await claimed(a, A), await claimed(a, A)
        await b.release(A, second.claim.epoch)
        await a.release(A, first.claim.epoch)
        assert await refused(b, A) == a.incarnation
        assert await a.commit([second.turn({b"k": b"v"})]) == [True]

    @over(2)
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

    @over(2)
    async def test_time_alone_refuses_nobody(self, a: SharedEngine, b: SharedEngine) -> None:
        """An owner whose lease is over commits until another has claimed: no clock is asked whether a commit is right."""
        turns = await claimed(a, A)
        await self.pass_lease(b)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [True]
        assert (await b.claim(A)).entries == {b"k": b"v"}
        assert await a.commit([turns.turn({b"k": b"w"})]) == [False]

    @over(2)
    async def test_joining_anew_owns_nothing(self, a: SharedEngine, b: SharedEngine) -> None:
        """What a node owned in an earlier life is free, though nobody has taken it, and its old claims commit no more."""
        turns = await claimed(a, A)
        await a.join(node(0), self.lease_s)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert await b.owner(A) is None
        assert (await b.claim(A)).epoch > turns.claim.epoch

    @over(2)
    async def test_leaving_frees(self, a: SharedEngine, b: SharedEngine) -> None:
        """What a node owned that has left is free at once, and its claims commit no more."""
        turns = await claimed(a, A)
        await a.leave()
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert (await b.claim(A)).seq == 0

    @over(3)
    async def test_starting_again_frees(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """What the predecessor under a name owned is free as soon as the successor joins; a claim fences the predecessor."""
        turns = await claimed(a, A)
        await c.leave()
        await c.join(node(0), self.lease_s)
        new = await claimed(b, A)
        assert await a.commit([turns.turn({b"k": b"v"})]) == [False]
        assert await b.commit([new.turn({b"k": b"w"})]) == [True]

    @over(2)
    async def test_one_taken_over_leaves_the_rest_of_a_batch(self, a: SharedEngine, b: SharedEngine) -> None:
        """In one batch the commits of actors that another has taken are refused, and only those."""
        x, y, z = [await claimed(a, actor) for actor in (A, B, C)]
        await self.pass_lease(b)
        await b.claim(B)
        batch = [x.turn({b"k": b"x"}), y.turn({b"k": b"y"}), z.turn({b"k": b"z"})]
        assert await a.commit(batch) == [True, False, True]
        assert [await everything(b, actor) for actor in (A, B, C)] == [{b"k": b"x"}, {}, {b"k": b"z"}]

    @over(2)
    async def test_two_claim_at_once(self, a: SharedEngine, b: SharedEngine) -> None:
        """Of two claims of a free actor one succeeds, and the other names its owner; only the owner commits."""
        for actor in [named_id("race", str(number)) for number in range(RACES)]:
            attempts = await asyncio.gather(*(claimed(engine, actor) for engine in (a, b)), return_exceptions=True)
            [(winner, turns)] = [(e, t) for e, t in zip((a, b), attempts, strict=True) if isinstance(t, Turns)]
            [loss] = [attempt for attempt in attempts if isinstance(attempt, BaseException)]
            assert isinstance(loss, OwnedElsewhere), loss
            assert loss.owner == winner.incarnation == await a.owner(actor)
            assert await winner.commit([turns.turn({b"k": b"v"})]) == [True]

    @over(2)
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

    @over(3)
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

    @over(2)
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
