"""Who is alive: joining, renewing, leaving, and the leases between."""

from __future__ import annotations

import pytest

from stead.storage.contract import Commit
from stead.storage.membership import LeaseLost, NameTaken, SharedEngine
from stead.testing.conformance.turns import A
from stead.testing.conformance_shared.opening import Openable, node, over


async def names(engine: SharedEngine) -> list[str]:
    """Who is alive, as `engine` learns when it renews."""
    return [member.info.name for member in await engine.renew()]


class Members(Openable):
    @over(3)
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

    @over(2, is_joined=False)
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

    @over(1, is_joined=False)
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

    @over(2)
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

    @over(2)
    async def test_renewing_keeps_alive(self, a: SharedEngine, b: SharedEngine) -> None:
        """Who renews in time stays, for longer than a lease is."""
        await self.pass_lease(a, b)
        assert sorted(await names(a)) == sorted(await names(b)) == ["node-0", "node-1"]

    @over(2)
    async def test_leaving(self, a: SharedEngine, b: SharedEngine) -> None:
        """Who leaves is gone at once."""
        await b.leave()
        assert await names(a) == ["node-0"]

    @over(3)
    async def test_a_name_has_one_live_node(self, a: SharedEngine, b: SharedEngine, c: SharedEngine) -> None:
        """A node that starts again under its name ends the lease of the one before, which learns so when it renews."""
        await c.leave()
        await c.join(node(1), self.lease_s)
        members = {member.info.name: member.incarnation for member in await a.renew()}
        assert members == {"node-0": a.incarnation, "node-1": c.incarnation}
        with pytest.raises(LeaseLost):
            await b.renew()
        assert await names(c) == await names(a)

    @over(2)
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

    @over(2)
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

    @over(2)
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
