"""One node's place among the others: its lease, renewed in time, and who else there is.

**The lease** says whether this node may own actors. The engine grants it on the engine's clock; here it is counted from the moment
before it was asked for, on a clock that goes on while the process is stopped, and given up before the engine's end of it
(`stead.logic.lease`). So whenever `Lease.is_held` says yes, nobody else can have claimed what this node owns, whatever the wall
clocks say. A process that was frozen past its lease finds `is_held` false before anything else of it has run.

**Losing it.** Where renewals fail for too long, or another node has started under this one's name, the watchers are told at once
to give everything up, and the node joins anew, under another incarnation that owns nothing; if it drained, it drains still. It
tries until it succeeds: a node without its database waits for it, and says so; one whose name a newer process has taken waits for
that one's end.

**Who there is** every renewal says. The next one comes sooner where it would say something else: when a lease on the list is over,
or when a node was heard of that is on no list. That has bounds, whatever the engine and the peers say: all nodes together renew at
most EARLY_PER_S times a second before their time, and a node whose early renewals bring no other list waits longer for each, until
it renews as if it had heard of nothing.

Not here: who owns which actor, and what is done about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from stead.clock import Clock, sleep
from stead.errors import EngineFailed
from stead.logic.lease import HARD_SHARE, LEASE_S, RENEW_SHARE, RETRY_SHARE, Standing, standing
from stead.logic.placement import Candidate
from stead.runtime.tasks import Tasks
from stead.storage.membership import LeaseLost, Member, NameTaken, NodeInfo, SharedEngine

EARLY_S = 0.001  # what a timer may be off by rounding: it must not be set again for no time at all
SOON_S = 0.02  # at least between two renewals: a lease may be over in the very moment after one
EARLY_PER_S = 500  # renewals before their time, of all nodes together: each one's answer is as long as the list of them
IN_VAIN_MAX = 16  # that are counted: SOON_S, doubled as often, is longer than any lease

log = logging.getLogger("stead")


class Lease:
    """This node's right to own actors, as far as it may trust it. Nobody holds it before `renewed`."""

    def __init__(self, clock: Clock, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._asked_s: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether nobody else can own at this moment what this node owns."""
        return self._standing() is not Standing.OVER

    @property
    def is_firm(self) -> bool:
        """Whether more actors may be taken: the lease was renewed lately."""
        return self._standing() is Standing.FIRM

    @property
    def left_s(self) -> float:
        """Until it is held no more."""
        return 0.0 if self._asked_s is None else self._asked_s + self._lease_s * HARD_SHARE - self._clock.elapsed_s()

    @property
    def renewal_s(self) -> float:
        """Until it is to be renewed: counted from when it was asked for, so that a slow answer takes nothing from the next."""
        return 0.0 if self._asked_s is None else self._asked_s + self._lease_s * RENEW_SHARE - self._clock.elapsed_s()

    def renewed(self, asked_s: float) -> None:
        """It was granted to who asked at that moment of the clock."""
        self._asked_s = asked_s

    def end(self) -> None:
        self._asked_s = None

    def _standing(self) -> Standing:
        return Standing.OVER if self._asked_s is None else standing(self._clock.elapsed_s() - self._asked_s, self._lease_s)


class Watcher(Protocol):
    """Who hears how the membership changes. What it does about it must not wait."""

    def members_changed(self, members: Sequence[Member]) -> None:
        """Who is alive, and who drains, is not as it was told last."""
        ...

    def lease_lost(self) -> None:
        """Give up every actor now: `incarnation` is over, and another may take them."""
        ...

    async def rejoining(self) -> None:
        """A new incarnation is about to begin. What others have sent to the one before is to be refused before that."""
        ...


class Membership:
    """Make it in a running loop, `start` it, and `close` it when nothing is owned any more. The engine stays open."""

    def __init__(self, engine: SharedEngine, info: NodeInfo, clock: Clock, lease_s: float = LEASE_S) -> None:
        self._engine = engine
        self._clock = clock
        self._tasks = Tasks()
        self._end_timer: asyncio.TimerHandle | None = None
        self._lost_s = clock.elapsed_s()
        self._is_failing = False
        self._is_draining = False
        self._is_outdated = asyncio.Event()  # set where the list of members is known to be old
        self._in_vain = 0  # renewals before their time, one after the other, that said nothing new
        self._told: set[tuple[str, str]] = set()  # nodes whose application was found to be another
        self.info = info
        self.lease_s = lease_s
        self.lease = Lease(clock, lease_s)
        self.incarnation = 0  # 0: this node is none of the cluster now
        self.is_cut_off = False  # said with every renewal: nobody but the database reaches this node
        self._members: Sequence[Member] = ()
        self.watchers: list[Watcher] = []

    @property
    def may_claim(self) -> bool:
        """Whether this node may take actors in now: its lease was renewed lately, and it is not relieved."""
        return self.lease.is_firm and not self.is_relieved

    @property
    def absent_s(self) -> float:
        """For how long this node has been none of the cluster; 0 while it is one."""
        return 0.0 if self.incarnation else self._clock.elapsed_s() - self._lost_s

    @property
    def candidates(self) -> list[Candidate]:
        """The members as placement sees them."""
        return [
            Candidate(
                member.incarnation,
                member.info.name,
                member.info.region,
                member.info.labels,
                member.is_draining,
                units=member.info.units,
            )
            for member in self._members
        ]

    @property
    def is_draining(self) -> bool:
        """Whether this node is to hand its actors over and take no more where it `is_relieved`: the mark outlasts a lost lease."""
        return self._is_draining

    @property
    def has_takers(self) -> bool:
        """Whether there are nodes that take actors in and do not drain, as last heard. If not, those that drain go on."""
        return any(not (member.is_draining or member.is_cut_off) for member in self._members)

    @property
    def is_relieved(self) -> bool:
        """Whether this node drains, and others are there to have its actors."""
        return self.is_draining and self.has_takers

    def members(self) -> Sequence[Member]:
        """Who is alive, as last heard, by incarnation. A node that lost its lease remembers the others."""
        return self._members

    def member(self, incarnation: int) -> Member | None:
        """The live node of that incarnation, as last heard."""
        return next((member for member in self._members if member.incarnation == incarnation), None)

    def outdated(self) -> None:
        """A node was heard of that is on no list yet: ask who there is at once."""
        self._is_outdated.set()

    async def start(self) -> None:
        """Join, learn who is there, and keep the lease from here on. A live node of the same name is over.

        Raises `EngineFailed` if the engine cannot be asked.
        """
        try:
            await self._join(takes_name=True)
        except BaseException:
            await self.abandon()
            raise
        self._tasks.start(self._beat())

    async def close(self) -> None:
        """Leave: what this node may own still is free at once."""
        await self.abandon()
        try:
            await self._engine.leave()
        except EngineFailed as exc:
            log.warning("the node could not leave; its lease ends by itself in %g s: %s", self.lease_s, exc)

    async def abandon(self) -> None:
        """Stop without a word, as a crash would."""
        await self._tasks.close()
        self._cancel_timer()
        self.lease.end()
        self.incarnation = 0

    # -- the heartbeat -------------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Renew again and again. Whoever wakes here late, however late, looks at the lease first."""
        while True:
            await self._pause()
            try:
                if self.incarnation and self.lease.is_held:
                    await self._renew()
                else:
                    self._lose("it could not be renewed in time")
                    await self._join(takes_name=False)
            except LeaseLost as exc:
                self._lose(str(exc))
                self._is_failing = True  # join soon
            except (EngineFailed, NameTaken) as exc:
                self._say_failing(exc)

    async def _pause(self) -> None:
        """Until the lease has to be renewed; sooner if somebody's ends before that, or the list of members is outdated."""
        is_early = False
        if self._is_failing:
            await sleep(self.lease_s * RETRY_SHARE)  # whoever is heard of meanwhile: a database in trouble is not asked more often
        else:
            in_time_s = max(self.lease.renewal_s, SOON_S)
            soon_s = min(max(SOON_S, len(self._members) / EARLY_PER_S) * 2**self._in_vain, in_time_s)
            left_s = min([in_time_s, *(member.lease_left_s for member in self._members)])
            await sleep(soon_s)
            try:
                async with asyncio.timeout(max(left_s - soon_s, 0)):
                    is_early = await self._is_outdated.wait()
            except TimeoutError:
                is_early = left_s < in_time_s
        self._in_vain = min(self._in_vain + 1, IN_VAIN_MAX) if is_early else 0
        self._is_outdated.clear()

    async def _join(self, takes_name: bool) -> None:
        await self._engine.join(self.info, self.lease_s, takes_name=takes_name, is_draining=self._is_draining)
        if not takes_name:
            for watcher in self.watchers:
                await watcher.rejoining()
        self.incarnation = self._engine.incarnation
        await self._renew()
        log.info("node %s is one of %d, as %d", self.info.name, len(self._members), self.incarnation)

    async def _renew(self) -> None:
        asked_s, incarnation = self._clock.elapsed_s(), self.incarnation
        members = await self._engine.renew(is_cut_off=self.is_cut_off)
        if self._is_failing:
            log.info("node %s has a lease again", self.info.name)
            self._is_failing = False
        if self.incarnation == incarnation:  # nothing was given up while the engine took its time
            self._trust(asked_s)
            self._see(members)

    def _trust(self, asked_s: float) -> None:
        self.lease.renewed(asked_s)
        self._cancel_timer()
        self._end_timer = asyncio.get_running_loop().call_later(self.lease.left_s, self._expire)

    def _expire(self) -> None:
        """The last moment: whatever the heartbeat waits for, everything is given up now."""
        if self.lease.is_held:  # the loop's clock and the lease's are not the same
            self._end_timer = asyncio.get_running_loop().call_later(max(self.lease.left_s, EARLY_S), self._expire)
        else:
            self._lose("it could not be renewed in time")

    def _lose(self, why: str) -> None:
        self._cancel_timer()
        self.lease.end()
        if self.incarnation:
            log.error("node %s has lost its lease and gives up its actors: %s", self.info.name, why)
            self.incarnation, self._lost_s = 0, self._clock.elapsed_s()
            for watcher in self.watchers:
                watcher.lease_lost()

    def _cancel_timer(self) -> None:
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None

    def _say_failing(self, error: EngineFailed | NameTaken) -> None:
        if not self._is_failing:
            log.warning("node %s could not renew its lease and tries again: %s", self.info.name, error)
        self._is_failing = True

    # -- who there is --------------------------------------------------------------------------------------------------------------

    def _see(self, members: Sequence[Member]) -> None:
        before, self._members = self._members, members
        self._is_draining = any(member.is_draining for member in members if member.incarnation == self.incarnation)
        if _facts(members) != _facts(before):
            self._in_vain = 0
            self._compare_applications()
            for watcher in self.watchers:
                watcher.members_changed(members)

    def _compare_applications(self) -> None:
        for member in self._members:
            key = (member.info.name, member.info.application)
            if member.info.application != self.info.application and key not in self._told:
                self._told.add(key)
                log.warning(
                    "node %s runs another version of the application than this one, %s rather than %s: actors may find either%s",
                    member.info.name,
                    member.info.application or "unknown",
                    self.info.application or "unknown",
                    _difference(self.info.units, member.info.units),
                )


def _difference(own: tuple[str, ...], others: tuple[str, ...]) -> str:
    if not own or not others:
        return ""
    only_here, only_there = sorted(set(own) - set(others)), sorted(set(others) - set(own))
    said = [(only_here, "only this one has the units"), (only_there, "only that one has the units")]
    return "".join(f"; {text} {', '.join(units)}" for units, text in said if units)


def _facts(members: Sequence[Member]) -> list[tuple[int, bool, NodeInfo]]:
    return [(member.incarnation, member.is_draining, member.info) for member in members]
