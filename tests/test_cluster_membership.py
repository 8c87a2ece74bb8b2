"""A node's lease and its view of the others, on the virtual loop over the database in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from stead.clock import Clock, sleep
from stead.cluster import Membership
from stead.cluster.membership import EARLY_PER_S
from stead.errors import EngineFailed
from stead.ids import Chance, named_id
from stead.logic.lease import HARD_SHARE, LEASE_S, RENEW_SHARE, RETRY_SHARE
from stead.storage.contract import OwnedElsewhere
from stead.storage.membership import Member, NodeInfo
from stead.storage.shared import NodeRow
from stead.testing import Database, DatabaseEngine, SeededLoop, VirtualClock, check, current_clock, run
from stead.testing.loop import Process

CART = named_id("cart", "a")
NAMES = ("a", "b", "c")
HOUR_MS = 3_600_000


class Watch:
    """What a node was told, and when."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.seen: list[list[str]] = []
        self.lost_s: list[float] = []
        membership.watchers.append(self)

    def members_changed(self, members: Sequence[Member]) -> None:
        self.seen.append(sorted(member.info.name for member in members))

    def lease_lost(self) -> None:
        assert not self.membership.lease.is_held
        assert self.membership.incarnation == 0
        self.lost_s.append(asyncio.get_running_loop().time())

    async def rejoining(self) -> None:
        assert not self.membership.lease.is_held
        assert self.membership.incarnation == 0


class Node:
    """A node without an application: its engine and its membership."""

    def __init__(self, name: str, database: Database, seed: int = 1, clock: Clock | None = None) -> None:
        self.engine: DatabaseEngine = database.engine(Chance(seed))
        self.membership = Membership(self.engine, NodeInfo(name, f"{name}:1"), clock or current_clock())
        self.watch = Watch(self.membership)

    @property
    def lease_holds(self) -> bool:
        return self.membership.lease.is_held


@asynccontextmanager
async def nodes(database: Database, *names: str, seed: int = 1) -> AsyncIterator[list[Node]]:
    """Nodes that have joined and know each other."""
    made = [Node(name, database, seed * 100 + number) for number, name in enumerate(names)]
    for one in made:
        await one.membership.start()
    await sleep(LEASE_S)
    try:
        yield made
    finally:
        for one in made:
            one.engine.mend()
            await one.membership.abandon()


def test_nodes_find_each_other() -> None:
    """Each node hears of all others, of one that leaves at once at its next renewal, and its lease is held all the while."""

    async def scenario(seed: int) -> None:
        async with nodes(Database(current_clock()), *NAMES, seed=seed) as (a, b, c):
            for one in (a, b, c):
                assert sorted(member.info.name for member in one.membership.members()) == [*NAMES]
                assert one.membership.member(a.membership.incarnation) is not None
            await sleep(20 * LEASE_S)
            assert all(one.lease_holds and one.membership.lease.is_firm and not one.watch.lost_s for one in (a, b, c))
            assert len({one.membership.incarnation for one in (a, b, c)}) == 3
            await c.membership.close()
            await sleep(LEASE_S / 3)
            assert a.watch.seen[-1] == b.watch.seen[-1] == ["a", "b"]
            assert not c.lease_holds
            assert c.membership.incarnation == 0

    check(scenario, 30)


def test_the_first_renewal_tells_who_is_there() -> None:
    """A node that has started knows the others already."""

    async def scenario() -> None:
        database = Database(current_clock())
        async with nodes(database, "a"):
            late = Node("b", database, 2)
            await late.membership.start()
            assert late.watch.seen == [["a", "b"]]
            await late.membership.close()

    run(scenario)


def test_the_dead_are_missed_within_a_lease() -> None:
    """A node that dies without a word is gone from everybody's list as soon as its lease is over."""

    async def scenario(seed: int) -> None:
        async with nodes(Database(current_clock()), *NAMES, seed=seed) as (a, b, c):
            await c.membership.abandon()
            await sleep(1.01 * LEASE_S)
            assert a.watch.seen[-1] == b.watch.seen[-1] == ["a", "b"]

    check(scenario, 30)


def test_who_hears_of_a_stranger_asks_at_once() -> None:
    """A list that is known to be old is replaced without waiting for the next renewal."""

    async def scenario(seed: int) -> None:
        database = Database(current_clock())
        async with nodes(database, "a", "b", seed=seed) as (a, b):
            late = Node("c", database, 7)
            await late.membership.start()
            for _ in range(3):
                a.membership.outdated()
            await sleep(0.1)
            assert a.watch.seen == [["a"], ["a", "b"], [*NAMES]]
            await late.membership.close()

    check(scenario, 30)


class Counted(DatabaseEngine):
    """Counts the renewals that it is asked for."""

    renewals = 0

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        self.renewals += 1
        return await super().renew(is_cut_off=is_cut_off)


def counted(node: Node) -> Counted:
    node.engine.__class__ = Counted
    assert isinstance(node.engine, Counted)
    return node.engine


async def flapping(membership: Membership, for_s: float) -> None:
    """Strangers have a channel again and again."""
    until_s = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < until_s:
        membership.outdated()
        await sleep(0.005)


def enrol(database: Database, count: int, first: int = 0, lease_s: float = 3600.0) -> None:
    """That many nodes of which there is nothing but the row."""
    for number in range(first, first + count):
        row = NodeRow(1 + number, NodeInfo(f"row-{number}", "x:1"), lease_s, database.clock.elapsed_s() + lease_s)
        database.enrol(row)


IN_TIME = 10 * 4  # renewals of ten leases


def test_strangers_that_nobody_lists_are_not_asked_for_more_and_more() -> None:
    """A peer that flaps, or lies about who it is, costs some renewals: each one in vain makes the next wait longer."""

    async def scenario(seed: int) -> None:
        database = Database(current_clock())
        async with nodes(database, "a", seed=seed) as (a,):
            engine = counted(a)
            await flapping(a.membership, 10 * LEASE_S)
            assert IN_TIME <= engine.renewals < IN_TIME + 10
            assert a.lease_holds and not a.watch.lost_s
            late = Node("b", database, 7)
            await late.membership.start()
            a.membership.outdated()
            await sleep(RENEW_SHARE * LEASE_S)
            assert a.watch.seen[-1] == ["a", "b"], "it is heard of no later than without asking at once"
            await sleep(LEASE_S)
            last = Node("c", database, 8)
            await last.membership.start()
            a.membership.outdated()
            await sleep(0.1)
            assert a.watch.seen[-1] == [*NAMES], "a while without strangers is enough"
            await late.membership.close()
            await last.membership.close()

    check(scenario, 10)


def test_a_database_whose_clock_stands_still_is_not_flooded() -> None:
    """Leases that ought to be over, and are not, are asked for less and less often; one that has nothing left, too."""

    class Still:
        def now_ms(self) -> int:
            return 0

        def elapsed_s(self) -> float:
            return 0.0

    async def scenario(left_s: float) -> None:
        database = Database(Still())
        enrol(database, 1, lease_s=left_s)
        async with nodes(database, "a") as (a,):
            engine = counted(a)
            await sleep(10 * LEASE_S)
            assert IN_TIME <= engine.renewals < IN_TIME + 10
            assert a.lease_holds and not a.watch.lost_s

    for left_s in (1e-9, 0.5):
        run(partial(scenario, left_s))


def test_many_nodes_do_not_flood_their_database_when_many_join() -> None:
    """With 300 nodes, of which one more comes every 20 ms, each asks as often as lets all together ask 500 times a second."""

    async def scenario() -> None:
        database = Database(current_clock())
        enrol(database, 300)
        async with nodes(database, "a") as (a,):
            engine, first = counted(a), 300
            began_s = asyncio.get_running_loop().time()
            for number in range(500):
                enrol(database, 1, first=first + number)
                a.membership.outdated()
                await sleep(0.02)
            took_s = asyncio.get_running_loop().time() - began_s
            assert engine.renewals < took_s * EARLY_PER_S / 300
            assert len(a.watch.seen) > took_s / (LEASE_S * RENEW_SHARE)

    run(scenario)


def test_a_database_in_trouble_is_not_asked_more_often() -> None:
    """While renewals fail, strangers change nothing of when the next one is tried."""

    async def scenario(seed: int) -> None:
        async with nodes(Database(current_clock()), "a", seed=seed) as (a,):
            engine = counted(a)

            async def fail(*, is_cut_off: bool | None = None) -> list[Member]:
                engine.renewals += 1
                raise EngineFailed("no")

            await sleep(LEASE_S * RENEW_SHARE * seed / 10)
            engine.renew = fail  # type: ignore[method-assign]
            await flapping(a.membership, LEASE_S / 2)
            assert engine.renewals <= 0.5 / RETRY_SHARE + 2

    check(scenario, 10)


def test_without_its_database_a_node_gives_up_before_others_may_take_over() -> None:
    """Cut off, a lease wanes, then ends: everything is given up before anybody else can claim it. Mended, a new life begins."""

    async def scenario(seed: int) -> None:
        database = Database(current_clock())
        async with nodes(database, "a", "b", seed=seed) as (a, b):
            loop, first = asyncio.get_running_loop(), a.membership.incarnation
            await a.engine.claim(CART)
            a.engine.cut()
            cut_s = loop.time()
            was_waning = False
            while database.live_owner(CART.text) == first:
                lease = a.membership.lease
                was_waning = was_waning or (lease.is_held and not lease.is_firm)
                with pytest.raises(OwnedElsewhere):
                    await b.engine.claim(CART)
                await sleep(0.05)
            assert was_waning
            assert not a.lease_holds
            [lost_s] = a.watch.lost_s
            assert cut_s + LEASE_S * (HARD_SHARE - 0.3) < lost_s < loop.time()
            await b.engine.claim(CART)
            await sleep(30)
            assert a.membership.incarnation == 0
            a.engine.mend()
            await sleep(LEASE_S)
            assert a.lease_holds
            assert a.membership.incarnation not in {0, first}
            assert a.watch.lost_s == [lost_s]
            assert b.watch.seen[-1] == a.watch.seen[-1] == ["a", "b"]

    check(scenario, 30)


def test_a_short_cut_is_not_felt() -> None:
    """A database that is away for a renewal or two costs nothing: the same life goes on."""

    async def scenario(seed: int) -> None:
        async with nodes(Database(current_clock()), "a", seed=seed) as (a,):
            before = a.membership.incarnation
            for _ in range(5):
                a.engine.cut()
                await sleep(LEASE_S * 0.4)
                a.engine.mend()
                await sleep(LEASE_S * 0.5)
            assert a.membership.incarnation == before
            assert not a.watch.lost_s

    check(scenario, 30)


def test_slow_answers_cost_no_lease() -> None:
    """Where the database takes 2 s to answer, a third of a lease, a node joins once and may claim most of the time."""

    class Distant(DatabaseEngine):
        """A way of a second to the database, and as long back."""

        async def _reach(self) -> None:
            await sleep(1.0)
            await super()._reach()

    async def scenario() -> None:
        a = Node("a", Database(current_clock()))
        a.engine.__class__ = Distant
        await a.membership.start()
        first, firm = a.membership.incarnation, 0
        for _ in range(1000):
            await sleep(LEASE_S / 50)
            assert a.lease_holds
            firm += a.membership.lease.is_firm
        assert firm > 700
        assert a.membership.incarnation == first
        assert not a.watch.lost_s
        await a.membership.close()

    run(scenario)


def test_a_name_taken_ends_the_one_before() -> None:
    """Another process starts under the name: the earlier one hears so when it renews, and stays out while that one lives."""

    async def scenario() -> None:
        database = Database(current_clock())
        async with nodes(database, "a") as (a,):
            second = Node("a", database, 2)
            await second.membership.start()
            taken = second.membership.incarnation
            await sleep(5 * LEASE_S)
            assert len(a.watch.lost_s) == 1
            assert not a.lease_holds
            assert [row.incarnation for row in database.live()] == [taken]
            assert not second.watch.lost_s
            await second.membership.close()
            await sleep(LEASE_S)
            assert a.lease_holds

    run(scenario)


def test_wrong_wall_clocks_have_no_effect() -> None:
    """A node whose clock is an hour off, or jumps by it, keeps its lease and its place."""

    class Skewed:
        def __init__(self, clock: VirtualClock, skew_ms: int) -> None:
            self.clock, self.skew_ms = clock, skew_ms

        def now_ms(self) -> int:
            return self.clock.now_ms() + self.skew_ms

        def elapsed_s(self) -> float:
            return self.clock.elapsed_s()

    async def scenario(seed: int) -> None:
        database, clock = Database(current_clock()), current_clock()
        clocks = [Skewed(clock, skew_ms) for skew_ms in (HOUR_MS, -HOUR_MS, 0)]
        made = [Node(name, database, seed * 9 + number, clocks[number]) for number, name in enumerate(NAMES)]
        for one in made:
            await one.membership.start()
        for skew_ms in (HOUR_MS, -2 * HOUR_MS):
            await sleep(LEASE_S)
            clocks[0].skew_ms += skew_ms
            clock.jump(skew_ms)
        await sleep(LEASE_S)
        for one in made:
            assert one.lease_holds
            assert one.watch.seen[-1] == [*NAMES]
            assert not one.watch.lost_s
        for one in made:
            await one.membership.close()

    check(scenario, 10)


def test_who_wakes_past_its_lease_knows_at_once() -> None:
    """A process that was stopped finds its lease over before anything of it has run; one stopped for less goes on."""

    class Stopped:
        """A clock that went on while nothing of its process did."""

        def __init__(self, clock: VirtualClock) -> None:
            self.clock, self.slept_s = clock, 0.0

        def now_ms(self) -> int:
            return self.clock.now_ms()

        def elapsed_s(self) -> float:
            return self.clock.elapsed_s() + self.slept_s

    async def scenario() -> None:
        clock, database = Stopped(current_clock()), Database(current_clock())
        a = Node("a", database, 1, clock)
        await a.membership.start()
        before = a.membership.incarnation
        clock.slept_s += LEASE_S * 0.5
        assert a.lease_holds
        await sleep(LEASE_S)
        assert a.membership.incarnation == before
        clock.slept_s += LEASE_S
        assert not a.lease_holds
        await sleep(LEASE_S)
        assert a.lease_holds
        assert len(a.watch.lost_s) == 1
        assert a.membership.incarnation not in {0, before}
        await a.membership.close()

    run(scenario)


def test_a_frozen_process_wakes_without_its_lease() -> None:
    """However long a process was stopped: whatever of it runs first finds no lease that the engine does not see as well."""

    async def scenario(seed: int) -> None:
        database, chance, process = Database(current_clock()), Chance(seed), Process("a")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        woken: list[int] = []  # the incarnation whose lease held, 0 if none did

        async def watching(membership: Membership) -> None:
            while True:
                if membership.lease.is_held:
                    assert membership.incarnation in database.nodes
                    assert database.nodes[membership.incarnation] in database.live()
                woken.append(membership.incarnation if membership.lease.is_held else 0)
                await sleep(0.01)

        async with nodes(database, "b"):
            membership = Node("a", database, seed).membership
            await loop.create_task(membership.start(), context=process.context())
            watch = loop.create_task(watching(membership), context=process.context())
            for _ in range(5):
                await sleep(LEASE_S * chance.fraction())
                before, woken[:] = membership.incarnation, []
                stopped_s = 2 * LEASE_S * chance.fraction()
                loop.freeze(process)
                await sleep(stopped_s)
                assert not woken
                loop.thaw(process)
                await sleep(LEASE_S)
                assert before not in woken or stopped_s < LEASE_S * HARD_SHARE
                assert membership.lease.is_held
                assert before == membership.incarnation or stopped_s > LEASE_S * (HARD_SHARE - RENEW_SHARE) - 0.1
            watch.cancel()
            await membership.abandon()

    check(scenario, 40)


def test_draining_is_heard_of() -> None:
    """Who is told to drain, and everybody else, hears so at the next renewal."""

    async def scenario() -> None:
        async with nodes(Database(current_clock()), "a", "b") as (a, b):
            assert await a.engine.set_draining("b", True)
            await sleep(LEASE_S / 3)
            assert b.membership.is_draining
            assert not b.membership.may_claim
            assert a.membership.may_claim
            assert not a.membership.is_draining
            assert [candidate.is_draining for candidate in a.membership.candidates] == [
                member.info.name == "b" for member in a.membership.members()
            ]

    run(scenario)


def test_who_drains_comes_back_draining() -> None:
    """Without its database for longer than its lease, a node that drains is marked again, and may never claim anything."""

    class Slow(DatabaseEngine):
        """Takes its time to say who is there, after it let somebody in."""

        async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
            await sleep(LEASE_S / 20)
            return await super().renew(is_cut_off=is_cut_off)

    async def scenario(seed: int) -> None:
        database = Database(current_clock())
        async with nodes(database, "a", "b", seed=seed) as (a, b):
            assert await a.engine.set_draining("b", True)
            await sleep(LEASE_S / 3)
            first = b.membership.incarnation
            b.engine.__class__ = Slow
            b.engine.cut()
            await sleep(LEASE_S)
            assert not b.lease_holds
            if seed % 2:
                database.strike(first)  # as who claims what it had
            b.engine.mend()
            for _ in range(100):
                assert not b.membership.may_claim
                await sleep(LEASE_S / 100)
            assert b.membership.incarnation not in {0, first}
            assert [row.info.name for row in database.live() if row.is_draining] == ["b"]

    check(scenario, 20)


def test_a_mark_may_change_while_a_node_is_away() -> None:
    """The mark that it had last is not what a node comes back with, if that was taken away or set meanwhile."""

    async def scenario(seed: int) -> None:
        async with nodes(Database(current_clock()), "a", "b", seed=seed) as (a, b):
            assert await a.engine.set_draining("b", bool(seed % 2))
            await sleep(LEASE_S / 3)
            b.engine.cut()
            await sleep(LEASE_S / 2)
            assert await a.engine.set_draining("b", not seed % 2)
            await sleep(LEASE_S)
            assert not b.lease_holds
            b.engine.mend()
            await sleep(LEASE_S)
            assert b.lease_holds
            assert b.membership.is_draining == (not seed % 2)

    check(scenario, 10)


def test_a_node_that_cannot_join_does_not_start() -> None:
    """Without its database `start` fails, and leaves nothing running."""

    async def scenario() -> None:
        a = Node("a", Database(current_clock()))
        a.engine.cut()
        with pytest.raises(EngineFailed):
            await a.membership.start()
        assert not a.lease_holds

    run(scenario)


def test_another_version_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """A node whose application differs is named in the log, once."""

    async def scenario() -> None:
        database = Database(current_clock())
        made = [
            Membership(database.engine(Chance(number)), NodeInfo(name, "x:1", application=name), current_clock())
            for number, name in enumerate(("old", "new"))
        ]
        for one in made:
            await one.start()
        await sleep(3 * LEASE_S)
        for one in made:
            await one.close()

    with caplog.at_level(logging.WARNING, "stead"):
        run(scenario)
    assert sorted(record.getMessage().split()[1] for record in caplog.records) == ["new", "old"]


def test_a_lease_counted_from_the_answer_is_found() -> None:
    """The planted bug: counted from the moment the engine answered, a lease is trusted that is over."""

    class Slow(DatabaseEngine):
        """Answers late, which a full network may do."""

        async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
            return await late(partial(super().renew, is_cut_off=is_cut_off))

    async def late(work: Callable[[], Awaitable[list[Member]]]) -> list[Member]:
        members = await work()
        await sleep(LEASE_S * 0.8)
        return members

    async def trusted_too_long(counts_from_answer: bool) -> bool:
        database = Database(current_clock())
        a = Node("a", database)
        await a.membership.start()
        a.engine.__class__ = Slow
        renewed = a.membership.lease.renewed
        if counts_from_answer:
            a.membership.lease.renewed = lambda asked_s: renewed(current_clock().elapsed_s())  # type: ignore[method-assign]
        found = False
        for _ in range(400):
            await sleep(0.05)
            found = found or (a.lease_holds and not database.live())
        await a.membership.abandon()
        return found

    assert run(lambda: trusted_too_long(True))
    assert not run(lambda: trusted_too_long(False))
