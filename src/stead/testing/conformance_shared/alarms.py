"""Whose an alarm is to fire: its owner's, or one live node's."""

from __future__ import annotations

from stead.ids import named_id
from stead.storage.contract import AlarmRow
from stead.storage.membership import SharedEngine
from stead.testing.conformance.turns import A, B, C, claimed
from stead.testing.conformance_shared.opening import Openable, node, over

ORPHANS = 60  # actors with alarms: so many that no node's share of them is empty by chance


class SharedAlarms(Openable):
    @over(2)
    async def test_an_alarm_is_its_owners(self, a: SharedEngine, b: SharedEngine) -> None:
        """While an actor has a live owner its alarms are that node's, and nobody else's."""
        turns = await claimed(a, A)
        await a.commit([turns.turn(alarms={"x": 10, "y": 20})])
        assert await a.due(99, 9) == [AlarmRow(10, A, "x"), AlarmRow(20, A, "y")]
        assert (await b.due(99, 9), await b.next_due_ms()) == ([], None)
        assert await a.next_due_ms() == 10

    @over(3)
    async def test_orphans_are_shared_out(self, *engines: SharedEngine) -> None:
        """Each alarm of actors without owner is one live node's, in order and within the limit, however many nodes there are."""
        await self._orphans(engines[0])
        await self._shared_out(*engines)
        await engines[1].leave()
        await self._shared_out(engines[0], engines[2])

    @over(3)
    async def test_a_dead_nodes_alarms_are_taken_over(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """Once the owner's lease is over the others have its alarms; it has none itself until it joins anew."""
        await self._orphans(a, is_released=False)
        assert len(await a.due(99_999, 999)) == ORPHANS
        await self.pass_lease(b, c)
        await self._shared_out(b, c)
        assert (await a.due(99_999, 999), await a.next_due_ms()) == ([], None)
        await a.join(node(0), self.lease_s)
        await self._shared_out(a, b, c)

    @over(3)
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

    @over(2)
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
