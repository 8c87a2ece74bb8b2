"""Calls that come back along their own chain, and calls that wait for each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stead import Actor, Deadlock, DurabilityLost, Invalid, TurnTimeout, durable, reads
from stead.clock import sleep
from stead.testing import TestApp, run

pytestmark = pytest.mark.usefixtures("clock")


class Node(Actor):
    """Follows a path of steps through other nodes: `[["b", …], …]` calls them in turn, all at once with `fan`."""

    log: list[str] = durable(factory=list)

    async def walk(self, path: list[str], wait_s: float = 0.0) -> list[str]:
        """Write, call the next of the path, write again; the names of who was visited."""
        self.log.append("in")
        await self.storage.put("in", len(self.log))
        await sleep(wait_s)
        visited = await self.env.NODE.get(path[0]).walk(path[1:], wait_s) if path else []
        self.log.append("out")
        return [self.id.name or "", *visited]

    @reads
    async def look(self, path: list[str], wait_s: float = 0.0) -> list[str]:
        await sleep(wait_s)
        visited = await self.env.NODE.get(path[0]).look(path[1:], wait_s) if path else []
        return [self.id.name or "", *visited]

    @reads
    async def look_then_write(self, path: list[str]) -> Any:
        target = self.env.NODE.get(path[0])
        return await (target.look_then_write(path[1:]) if len(path) > 1 else target.walk([]))

    async def fan(self, paths: list[list[str]], wait_s: float = 0.0) -> list[list[str]]:
        self.log.append("fan")
        return list(await asyncio.gather(*[self.env.NODE.get(path[0]).walk(path[1:], wait_s) for path in paths]))

    async def fail_inside(self, via: str) -> str:
        """The callback fails and is caught; its writes go, ours stay."""
        self.log.append("before")
        try:
            await self.env.NODE.get(via).call_back(self.id.name)
        except ValueError as error:
            self.log.append("after")
            await self.storage.put("caught", str(error))
            return f"{self.log}"
        return "not raised"

    async def call_back(self, name: str) -> None:
        await self.env.NODE.get(name).fail()

    async def fail(self) -> None:
        self.log.append("failed")
        await self.storage.put("failed", True)
        await self.sql.execute("CREATE TABLE failed (n)")
        raise ValueError("inside")

    async def fail_outside(self, via: str) -> None:
        """The callback's writes and those before it were committed; what comes later goes."""
        self.log.append("before")
        await self.env.NODE.get(via).walk([self.id.name or ""])
        self.log.append("late")
        await self.storage.put("late", True)
        raise ValueError("outside")

    async def transact(self, via: str, *, inside: bool) -> str:
        async with self.storage.transaction():
            await self.storage.put("x", 1)
            if inside:
                await self.env.NODE.get(via).walk([])
        return "done"

    async def abort_inside(self, via: str) -> None:
        self.log.append("before")
        await self.env.NODE.get(via).call_abort(self.id.name)
        self.log.append("after")

    async def call_abort(self, name: str) -> None:
        await self.env.NODE.get(name).give_up()

    async def give_up(self) -> None:
        self.log.append("inner")
        self.ctx.abort("enough")

    async def mutual(self, other: str, wait_s: float = 1.0) -> Any:
        """Two that call each other at the same time."""
        self.log.append("mutual")
        await sleep(wait_s)
        return await self.env.NODE.get(other).walk([])

    async def twice(self, left: str, right: str) -> list[str]:
        """Two calls that both come back; the second to arrive waits while the first calls out again."""
        back = self.id.name or ""
        calls = [self.env.NODE.get(left).relay([back, right]), self.env.NODE.get(right).relay([back])]
        return [repr(reply) for reply in await asyncio.gather(*calls, return_exceptions=True)]

    async def relay(self, path: list[str]) -> Any:
        await sleep(0.1 if len(path) > 1 or self.id.name == "hub" else 0.2)
        return await self.env.NODE.get(path[0]).relay(path[1:]) if path else "end"

    async def seen(self) -> list[Any]:
        return [self.log, await self.storage.list()]


def nodes() -> TestApp:
    return TestApp.of(actors={"node": Node})


@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "a"], ["a", "a", "a"], ["b", "a", "b", "a"]])
async def test_a_call_that_comes_back_runs_at_once(path: list[str]) -> None:
    """A→A, A→B→A and longer ways home run nested, each turn with its own writes, in the order they nest."""
    async with nodes() as app:
        assert await app.env.NODE.get("a").walk(path) == ["a", *path]
        entered = 1 + path.count("a")
        for _ in range(2):
            assert (await app.env.NODE.get("a").seen())[0] == ["in"] * entered + ["out"] * entered
            await app.crash()


async def test_reads_that_come_back_run_nested_too() -> None:
    """A chain of reads may return to its start; one that would write there is refused and says why."""
    async with nodes() as app:
        node = app.env.NODE.get("a")
        assert await node.look(["b", "a"]) == ["a", "b", "a"]
        with pytest.raises(Invalid, match="came back to write; remove @reads"):
            await node.look_then_write(["b", "a"])
        assert await node.look_then_write(["b"]) == ["b"]


async def test_several_callbacks_run_one_after_the_other() -> None:
    """A turn that calls many at once may be called back by all of them; the callbacks do not overlap."""
    async with nodes() as app:
        replies = await app.env.NODE.get("a").fan([[name, "a"] for name in "bcd"], 0.1)
        assert replies == [[name, "a"] for name in "bcd"]
        assert (await app.env.NODE.get("a").seen())[0] == ["fan", *["in", "out"] * 3]


async def test_a_failing_callback_rolls_back_alone() -> None:
    """What it wrote is gone, what the outer turn wrote before and after stays, in memory and on the disk."""
    async with nodes() as app:
        node = app.env.NODE.get("a")
        assert await node.fail_inside("b") == "['before', 'after']"
        for _ in range(2):
            assert await node.seen() == [["before", "after"], {"caught": "inside"}]
            await app.crash()


async def test_a_failing_outer_turn_goes_back_to_its_last_call() -> None:
    """What was committed before the call went out stays, with what the callback wrote; the note says so."""
    async with nodes() as app:
        node = app.env.NODE.get("a")
        with pytest.raises(ValueError) as caught:
            await node.fail_outside("b")
        assert "before its last call to another unit or sync() stays committed" in caught.value.__notes__[0]
        for _ in range(2):
            assert await node.seen() == [["before", "in", "out"], {"in": 2}]
            await app.crash()


async def test_nothing_leaves_a_transaction() -> None:
    """A call to another unit inside `storage.transaction()` is refused before anything went out."""
    async with nodes() as app:
        with pytest.raises(Invalid, match=r"inside storage.transaction\(\)"):
            await app.env.NODE.get("a").transact("b", inside=True)
        assert await app.env.NODE.get("b").seen() == [[], {}]
        assert await app.env.NODE.get("a").transact("b", inside=False) == "done"


async def test_abort_in_a_callback_ends_the_outer_turn() -> None:
    """The whole actor is reset: the caller of the outer turn gets `Aborted`, and only what was committed remains."""
    async with nodes() as app:
        node = app.env.NODE.get("a")
        with pytest.raises(Exception, match="node/a was aborted: enough"):
            await node.abort_inside("b")
        assert await node.seen() == [["before"], {}]
        assert await app.env.NODE.get("b").walk([]) == ["b"]


@pytest.mark.parametrize("ring", ["ab", "abc", "abcde"])
@pytest.mark.parametrize("seed", range(4))
def test_a_circle_of_waits_is_an_error_that_names_it(ring: str, seed: int) -> None:
    """Turns that call each other in a circle do not hang: the call that would close it gets `Deadlock`, the others go on."""

    async def main() -> None:
        async with nodes() as app:
            calls = [app.env.NODE.get(name).mutual(other) for name, other in zip(ring, ring[1:] + ring[0], strict=True)]
            started_s = app.clock.elapsed_s()
            replies = await asyncio.gather(*calls, return_exceptions=True)
            assert app.clock.elapsed_s() - started_s < 5
            deadlocks = [reply for reply in replies if isinstance(reply, Deadlock)]
            assert len(deadlocks) == 1
            assert all(f"node/{name}" in str(deadlocks[0]) for name in ring)

    run(main, seed=seed)


async def test_a_circle_through_a_waiting_callback_is_found() -> None:
    """A callback that queues behind another one of the same turn is a wait like any other."""
    async with nodes() as app:
        started_s = app.clock.elapsed_s()
        first, second = await app.env.NODE.get("hub").twice("left", "right")
        assert app.clock.elapsed_s() - started_s < 5
        assert first.startswith("Deadlock") and "node/right" in first
        assert second == "'end'"


@pytest.mark.parametrize("seed", range(30))
def test_waiting_is_not_a_circle(seed: int) -> None:
    """Fan-in, diamonds and queues behind others' turns end without `Deadlock`."""

    async def main() -> None:
        async with nodes() as app:
            node = app.env.NODE
            calls = [
                *[node.get(name).walk(["sink"], 0.3) for name in "abcd"],
                node.get("top").fan([["left", "bottom"], ["right", "bottom"], ["bottom"]], 0.2),
                node.get("sink").walk(["deep"], 0.5),
                node.get("a").fan([["sink"], ["a"], ["deep", "deeper"]], 0.1),
                *[node.get(name).look(["sink", "deep"], 0.1) for name in "abcd"],
            ]
            replies = await asyncio.gather(*calls, return_exceptions=True)
        assert [reply for reply in replies if isinstance(reply, BaseException)] == []

    run(main, seed=seed)


class Slow(Actor):
    turn_limit_s = 5.0
    value: int = durable(0)

    async def outer(self, wait_s: float) -> None:
        self.value += 1
        await self.env.SLOW.get("other").back(self.id.name, wait_s)

    async def back(self, name: str, wait_s: float) -> None:
        await self.env.SLOW.get(name).inner(wait_s)

    async def inner(self, wait_s: float) -> None:
        self.value += 10
        await sleep(wait_s)

    @reads
    async def get(self) -> int:
        return self.value


async def test_a_callback_counts_against_the_outer_limit() -> None:
    """At the limit outer and inner turn end together; what was committed when the call went out stays."""
    async with TestApp.of(actors={"slow": Slow}) as app:
        slow = app.env.SLOW.get("a")
        waiting = asyncio.gather(slow.outer(1000), slow.get(), return_exceptions=True)
        await app.clock.advance(5)
        timed_out, value = await waiting
        assert isinstance(timed_out, TurnTimeout)
        assert value == 1
        await app.clock.advance(20)
        assert await slow.get() == 1


async def test_a_lost_commit_reaches_nested_turns() -> None:
    """If the commit before the call is lost, the call never goes out, and everyone hears of it."""
    async with nodes() as app:
        app.fail_next_commit()
        with pytest.raises(DurabilityLost):
            await app.env.NODE.get("a").walk(["b", "a"])
        assert await app.env.NODE.get("a").seen() == [[], {}]
        assert await app.env.NODE.get("b").seen() == [[], {}]
        assert await app.env.NODE.get("a").walk(["b", "a"]) == ["a", "b", "a"]


@pytest.mark.parametrize("seed", range(20))
def test_a_commit_lost_at_any_place_of_a_nest_leaves_whole_turns(seed: int) -> None:
    """Whichever commit of A→B→A fails, every actor ends with what its turns committed, and answers again."""

    async def main() -> None:
        async with TestApp.of(actors={"node": Node}) as app:
            for commits in range(6):
                name = f"a{commits}"
                walk = asyncio.gather(app.env.NODE.get(name).walk(["b", name], 0.1), return_exceptions=True)
                for _ in range(commits):
                    await app.clock.advance(0.1)
                app.fail_next_commit()
                (reply,) = await walk
                assert reply == [name, "b", name] or isinstance(reply, DurabilityLost)
                log, stored = await app.env.NODE.get(name).seen()
                assert "in" not in stored or stored["in"] <= len(log)

    run(main, seed=seed)
