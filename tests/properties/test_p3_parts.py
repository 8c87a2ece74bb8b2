"""P3, for turns of several parts: transactions inside a turn, calls in the middle of one, nested turns; and for spawned work."""

from __future__ import annotations

from typing import Any

from stead import Ambiguous, Deadlock
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import TestApp, World, check
from tests.properties.harness import UNDONE, Ledger, Refused, assert_whole, beset_by, crashing, evicting, failing, together
from tests.properties.stage import App

CLIENTS, OPERATIONS = 2, 4


class Parts(Ledger):
    """A ledger whose turns have parts. What must be there afterwards is known of each operation."""

    async def transact(self, token: str, fails: bool) -> Any:
        """`+1` in the turn, `+2` in a transaction that may roll back alone, `+3` after it."""
        await self._all(f"{token}+1")
        try:
            async with self.storage.transaction():
                await self._all(f"{token}+2")
                if fails:
                    raise Refused(token)
        except Refused:
            self.memory.remove(f"{token}+2")
        await self._all(f"{token}+3")
        return await self._view()

    async def call_out(self, token: str, other: str, fails: bool) -> Any:
        """`+1`, a call, which commits it, and `+2`, with which the turn may fail."""
        await self._all(f"{token}+1")
        await self.env.PARTS.get(other).add(f"{token}+other")
        await self._all(f"{token}+2")
        if fails:
            raise Refused(token)
        return await self._view()

    async def nest(self, token: str, other: str, fails: bool) -> Any:
        """`+1`, a call that comes back as a nested turn with `+2`, which may fail alone, and `+3`."""
        await self._all(f"{token}+1")
        try:
            await self.env.PARTS.get(other).reflect(str(self.id.name), f"{token}+2", fails)
        except Refused:
            self.memory = [*self.tokens]
        await self._all(f"{token}+3")
        return await self._view()

    async def reflect(self, whom: str, token: str, fails: bool) -> Any:
        return await self.env.PARTS.get(whom).add(token, fail_at=3 if fails else -1)

    async def synced(self, token: str, fails: bool) -> Any:
        """`+1` made durable in the middle, and `+2`, with which the turn may fail."""
        await self._all(f"{token}+1")
        await self.storage.sync()
        await self._all(f"{token}+2")
        if fails:
            raise Refused(token)
        return await self._view()

    async def spawned(self, token: str, fails: bool) -> None:
        """`+1` and `+2` in two turns of work beside this one; the second may fail."""
        self.ctx.spawn(self._work(token, fails))

    async def _work(self, token: str, fails: bool) -> None:
        try:
            async with self.ctx.turn():
                await self._all(f"{token}+1")
            async with self.ctx.turn():
                await self._all(f"{token}+2")
                if fails:
                    raise Refused(token)
        except (Refused, *UNDONE):  # undone also if another turn failed meanwhile: the instance is not the same any more
            return

    async def _all(self, token: str) -> None:
        for step in (self._attribute, self._key, self._row, self._set_alarm):
            await step(token, b"")
            await sleep(0.01)


Known = dict[str, set[str]]  # tokens by actor


async def client(app: App, name: str, chance: Chance, there: Known, gone: Known) -> None:
    """Run operations, and note which tokens each actor must hold and which it must not, where that is known."""
    for number in range(OPERATIONS):
        own, other = "pq" if chance.below(2) else "qp"
        token, fails = f"{name}{number}", chance.below(2) == 0
        first, second, third = (f"{token}+{part}" for part in (1, 2, 3))
        actor, method = app.env.PARTS.get(own), ("transact", "call_out", "nest", "synced")[chance.below(4)]
        arguments = (token, other, fails) if method in {"call_out", "nest"} else (token, fails)
        try:
            view = await getattr(actor, method)(*arguments)
        except Refused:  # of a turn that was committed up to its middle
            there[own].add(first)
        except (Ambiguous, Deadlock, *UNDONE):
            continue
        else:
            assert_whole(view)
            there[own] |= {first, third} if method in {"transact", "nest"} else {first}
        (gone if fails else there)[own].add(second)
        await sleep(0.1 * chance.fraction())


async def scenario(seed: int, on: type[App] = TestApp) -> None:
    """Clients of two actors that call each other, under no faults, or crashes, full disks and evictions."""
    chance = Chance(seed)
    there: Known = {"p": set(), "q": set()}
    gone: Known = {"p": set(), "q": set()}
    async with on.of(actors={"parts": Parts}, world=World(commit_s=0.02)) as app:
        p, q = app.env.PARTS.get("p"), app.env.PARTS.get("q")
        faults = [crashing(app, chance), failing(app, chance), evicting(app, chance, p, q)] if seed % 2 else []
        async with beset_by(*faults):
            await together(
                *(client(app, name, chance, there, gone) for name in "ab"[:CLIENTS]),
                *(spawning(actor, chance) for actor in (p, q)),
            )
        await app.clock.advance(5)
        for name, actor in (("p", p), ("q", q)):
            view = await actor.view()
            assert_whole(view)
            missing, left = there[name] - set(view["attribute"]), gone[name] & set(view["attribute"])
            assert not missing, f"acknowledged, and not there: {missing}"
            assert not left, f"rolled back, and there: {left}"
            assert "s+2" not in view["attribute"], "a failed turn of spawned work left a trace"


async def spawning(actor: Any, chance: Chance) -> None:
    """Work beside turns, of which one turn fails."""
    await sleep(chance.fraction())
    try:
        await actor.spawned("s", True)
    except (Ambiguous, *UNDONE):
        return


def test_each_part_is_whole_or_nothing() -> None:
    """A transaction, a nested turn and what follows a call roll back alone, and each of them whole."""
    check(scenario)
