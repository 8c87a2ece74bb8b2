"""TestApp, its faults and the checks over seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stead import Actor, AlarmInfo, Ambiguous, DurabilityLost, Invalid, ManifestError, Request, Service, durable, route
from stead.clock import sleep
from stead.testing import BINDING_SABOTAGES, SABOTAGES, SEEDS, SOCKET_SABOTAGES, TestApp, check, current_clock, find, run, sabotaged

SEED = 5


class Counter(Actor):
    value: int = durable(0)

    async def increment(self, pause_s: float = 0.0) -> int:
        self.value += 1
        await sleep(pause_s)
        return self.value

    async def arm(self, hours: int) -> None:
        await self.alarms.set("", timedelta(hours=hours))

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.value = 0


class Api(Service):
    @route("POST", "/{name}")
    async def post(self, request: Request, name: str) -> dict[str, int]:
        await sleep(0.01)
        return {"value": await self.env.COUNTER.get(name).increment()}

    async def ping(self) -> str:
        return "pong"


def in_app(test: Callable[[TestApp], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with TestApp.of(actors={"counter": Counter}, services={"api": Api}) as app:
            await test(app)

    run(main, seed=SEED)


def task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


def test_env_client_and_clock() -> None:
    """An application answers through its bindings and over HTTP, and its alarms run when the clock is moved."""

    async def test(app: TestApp) -> None:
        counter = app.env.COUNTER.get("a")
        assert await counter.increment() == 1
        assert (await app.client.post("/a")).json() == {"value": 2}
        assert await app.env.API.ping() == "pong"
        assert [entry.id for entry in (await app.env.COUNTER.list()).actors] == [counter.id]
        await counter.arm(24)
        await app.clock.advance(hours=24)
        assert await counter.increment() == 1
        assert app.seed == SEED

    in_app(test)


def test_evict_waits_until_idle() -> None:
    """An evicted actor has left memory with nothing lost; a busy one is waited for."""

    async def test(app: TestApp) -> None:
        counter = app.env.COUNTER.get("a")
        call = task(counter.increment(pause_s=3))
        await sleep(1)
        await app.evict(counter)
        assert call.done()
        assert app.stats()["residents"] == 0
        assert await counter.increment() == 2

    in_app(test)


def test_evicting_what_is_never_idle_is_an_error() -> None:
    """An actor whose commits are held cannot leave, and the error says why."""

    async def test(app: TestApp) -> None:
        counter = app.env.COUNTER.get("a")
        with app.hold_commits() as held:
            call = task(counter.increment())
            await held.wait()
            with pytest.raises(Invalid, match="held"):
                await app.evict(counter)
        await call

    in_app(test)


def test_a_crash_loses_what_is_not_committed() -> None:
    """Callers get Ambiguous, by stub and over HTTP; stubs go on working; what was acknowledged is there."""

    async def test(app: TestApp) -> None:
        counter = app.env.COUNTER.get("a")
        await counter.increment()
        calls = [task(counter.increment(pause_s=10)), task(app.client.post("/b"))]
        with app.hold_commits():
            await sleep(1)
            await app.crash()
        for call in calls:
            with pytest.raises(Ambiguous):
                await call
        assert await counter.increment() == 2
        assert app.stats()["turns"] == 1

    in_app(test)


def test_a_commit_under_way_is_lost_or_durable_as_the_seed_decides() -> None:
    """Over some seeds a crash at a commit does both, and each seed does the same again."""

    async def main() -> int:
        async with TestApp.of(actors={"counter": Counter}) as app:
            counter = app.env.COUNTER.get("a")
            with app.hold_commits() as held:
                call = task(counter.increment())
                await held.wait()
                assert held.waiting == 1
                await app.crash()
            with pytest.raises(Ambiguous):
                await call
            return int(await counter.increment())

    first, second = ([run(main, seed=seed) for seed in range(20)] for _ in range(2))
    assert first == second
    assert set(first) == {1, 2}


def test_held_commits_hold_replies() -> None:
    """Nothing is answered while commits are held, and everything once they are released."""

    async def test(app: TestApp) -> None:
        held = app.hold_commits()
        call = task(app.env.COUNTER.get("a").increment())
        await app.clock.advance(minutes=1)
        assert not call.done()
        held.release()
        assert await call == 1

    in_app(test)


def test_a_failing_commit_fails_its_callers_only() -> None:
    """One full disk is one DurabilityLost, undone; the next commit works."""

    async def test(app: TestApp) -> None:
        counter = app.env.COUNTER.get("a")
        app.fail_next_commit()
        with pytest.raises(DurabilityLost, match="disk is full"):
            await counter.increment()
        assert await counter.increment() == 1

    in_app(test)


def test_it_runs_a_manifest(tmp_path: Path) -> None:
    """The path is a manifest's or its directory's, and a missing one is an error that says so."""
    (tmp_path / "stead.manifest").write_text('application "shop" {\n  module = "shop_of_test"\n  actor "cart" {}\n}\n')
    (tmp_path / "shop_of_test.py").write_text(
        "from stead import Actor\n\n\nclass Cart(Actor):\n    async def hello(self) -> str:\n        return self.id.name or ''\n"
    )

    async def main(place: Path) -> None:
        async with TestApp(place, seed=3) as app:
            assert await app.env.CART.get("ann").hello() == "ann"
            assert app.seed == 3

    run(main(tmp_path))
    run(main(tmp_path / "stead.manifest"))
    with pytest.raises(ManifestError, match="no stead.manifest"):
        TestApp(tmp_path / "elsewhere")


def test_it_needs_a_seeded_loop() -> None:
    """On asyncio's own loop time is real, and the error says which loop to use."""

    async def main() -> None:
        async with TestApp.of(actors={"counter": Counter}):
            pass

    with pytest.raises(Invalid, match="SeededLoop"):
        asyncio.run(main())


def test_a_failing_block_ends_at_once() -> None:
    """The block's own error is the one that is raised, also with commits held and calls under way."""

    async def main() -> None:
        async with TestApp.of(actors={"counter": Counter}) as app:
            app.hold_commits()
            calls.append(task(app.env.COUNTER.get("a").increment()))
            await sleep(1)
            raise KeyError("the block's own")

    calls: list[asyncio.Task[Any]] = []
    with pytest.raises(KeyError, match="the block's own"):
        run(main, seed=SEED)
    assert isinstance(calls[0].exception(), Ambiguous)


def test_check_names_the_seed_and_find_finds_it() -> None:
    """A scenario that fails with one seed fails the check with that seed in a note, and is found."""

    async def scenario(seed: int) -> None:
        assert current_clock().elapsed_s() == 0
        assert seed != 7

    with pytest.raises(AssertionError) as failure:
        check(scenario)
    assert "seed 7" in failure.value.__notes__[0]
    assert find(scenario) == 7
    assert SEEDS >= 200


def test_a_search_begins_where_it_is_told_and_goes_round() -> None:
    """A seed that was right once costs one run; one that is not any more costs time, and finds the same."""
    tried: list[int] = []

    async def scenario(seed: int) -> None:
        tried.append(seed)
        assert seed != 7

    for first, runs in [(7, [7]), (5, [5, 6, 7]), (8, [8, 9, 0, 1, 2, 3, 4, 5, 6, 7])]:
        tried.clear()
        assert find(scenario, 10, first=first) == 7
        assert tried == runs


def test_the_environment_says_how_many_seeds_a_check_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """STEAD_SEEDS stands for the number that the test names."""
    tried: list[int] = []

    async def scenario(seed: int) -> None:
        tried.append(seed)

    monkeypatch.setenv("STEAD_SEEDS", "12")
    check(scenario, 3)
    assert tried == [*range(12)]


def test_a_check_that_cannot_fail_is_found_out() -> None:
    """`find` fails where no seed does, and lets errors through that are no verdict."""

    async def harmless(seed: int) -> None: ...

    async def wrong(seed: int) -> None:
        raise TypeError("the scenario itself is wrong")

    with pytest.raises(AssertionError, match="cannot fail"):
        find(harmless, 3)
    with pytest.raises(TypeError):
        find(wrong, 3)


PLANTS = SABOTAGES | SOCKET_SABOTAGES | BINDING_SABOTAGES


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_goes_with_its_block(name: str) -> None:
    """Inside the block the product function is another one; after it, the right one."""
    plant = PLANTS[name]
    right = vars(plant.owner)[plant.attribute]
    with sabotaged(plant):
        assert vars(plant.owner)[plant.attribute] is not right
    assert vars(plant.owner)[plant.attribute] is right
    assert plant.wrong.__doc__


def test_each_promise_of_one_node_has_a_planted_bug() -> None:
    """P1 to P11; an unknown bug is refused."""
    assert {plant.promise for plant in SABOTAGES.values()} == {f"P{number}" for number in range(1, 12)}
    with pytest.raises(Invalid, match="reply_before_commit"), sabotaged("no such"):
        pass
