"""What the property tests share: an actor that keeps each token in four places at once, clients that remember what they were told,
and the world's faults as tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any, Generic, TypeVar

from stead import (
    Aborted,
    Actor,
    AlarmInfo,
    Ambiguous,
    DurabilityLost,
    EngineFailed,
    Invalid,
    SteadError,
    TurnTimeout,
    Unavailable,
    durable,
    reads,
)
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SEEDS, find, run, sabotaged
from stead.testing.planting import Plant
from stead.testing.seeds import Scenario
from tests.properties.stage import App

T = TypeVar("T")
NEVER = timedelta(days=3650)
UNDONE = (Aborted, DurabilityLost, EngineFailed, Invalid, TurnTimeout, Unavailable)  # by their contract nothing is left of the turn


class Refused(Exception):
    """What an operation raises on purpose."""


class Started(Generic[T]):
    """`coro`, run up to its first wait at once: what it sends is sent now, in the order of the code. Await it for its result."""

    def __init__(self, coro: Coroutine[Any, Any, T]) -> None:
        self._coro = coro
        self._result: T | None = None
        self._error: BaseException | None = None
        self._first: Any = None
        self._done = False
        try:
            self._first = coro.send(None)
        except StopIteration as stop:
            self._result, self._done = stop.value, True
        except Exception as exc:  # noqa: BLE001 - whatever it is, who awaits gets it
            self._error, self._done = exc, True

    def __await__(self) -> Generator[Any, Any, T]:
        if self._error is not None:
            raise self._error
        if self._done:
            return self._result  # type: ignore[return-value]
        waited, thrown = self._first, None
        while True:
            try:
                yield waited
            except BaseException as exc:  # noqa: BLE001 - what the awaiting task is given is the coroutine's to handle
                thrown = exc
            try:
                waited = self._coro.send(None) if thrown is None else self._coro.throw(thrown)
                thrown = None
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]


class Ledger(Actor):
    """Each token it is given goes into an attribute, a key, a SQL row and an alarm. All four always say the same."""

    tokens: list[str] = durable(factory=list)
    turn_limit_s = 5.0

    async def on_start(self) -> None:
        self.memory: list[str] = [*self.tokens]  # not durable: an instance that outlived a failed turn is found out by it

    async def add(self, token: str, payload: bytes = b"", pause_s: float = 0.0, fail_at: int = -1, how: str = "raise") -> Any:
        """Write `token` in four steps; before step `fail_at` (4: after the last) fail as `how` says."""
        for number, step in enumerate((self._attribute, self._key, self._row, self._set_alarm)):
            if number == fail_at:
                await self._fail(token, how)
            await step(token, payload)
            await sleep(pause_s)
        if fail_at == 4:
            await self._fail(token, how)
        return await self._view()

    @reads
    async def view(self) -> Any:
        return await self._view()

    @reads
    async def payloads(self) -> dict[str, bytes]:
        return {key.removeprefix("t:"): value for key, value in (await self.storage.list("t:")).items()}

    async def alarm(self, alarm: AlarmInfo) -> None:
        raise AssertionError(f"{alarm.name} is due in ten years")

    async def _fail(self, token: str, how: str) -> None:
        if how == "abort":
            self.ctx.abort(token)
        if how == "timeout":
            await sleep(60)
        if how == "unstorable":
            self.tokens.append(object())  # type: ignore[arg-type]
            return
        if how == "full":
            await self.storage.put("huge", b"x" * (3 << 20))
        raise Refused(token)

    async def _attribute(self, token: str, payload: bytes) -> None:
        self.tokens.append(token)
        self.memory.append(token)  # after a write: a turn that raises without one keeps its instance

    async def _key(self, token: str, payload: bytes) -> None:
        await self.storage.put(f"t:{token}", payload)

    async def _row(self, token: str, payload: bytes) -> None:
        await self.sql.execute("create table if not exists log(token text)")
        await self.sql.execute("insert into log values (?)", token)

    async def _set_alarm(self, token: str, payload: bytes) -> None:
        await self.alarms.set(token, NEVER)

    async def _view(self) -> dict[str, list[str]]:
        keys = [key.removeprefix("t:") for key in await self.storage.list("t:")]
        has_rows = await self.sql.fetch_value("select count(*) from sqlite_master where name = 'log'")
        rows = [str(row["token"]) for row in await self.sql.fetch_all("select token from log order by rowid")] if has_rows else []
        alarms = [alarm.name for alarm in await self.alarms.list()]
        return {"attribute": [*self.tokens], "memory": self.memory, "rows": rows, "keys": keys, "alarms": alarms}


def assert_whole(view: dict[str, list[str]]) -> None:
    """A view says the same in every place."""
    tokens = view["attribute"]
    assert len(set(tokens)) == len(tokens), f"a token is there twice: {tokens}"
    for place in ("memory", "rows"):
        assert view[place] == tokens, f"{place} says {view[place]}, the attribute {tokens}"
    for place in ("keys", "alarms"):
        assert view[place] == sorted(tokens), f"{place} say {view[place]}, the attribute {tokens}"


class Witness:
    """What the clients of one ledger were told."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.told: dict[str, list[str]] = {}  # an acknowledged token: the history that its reply showed
        self.undone: set[str] = set()
        self.lost: set[str] = set()  # with a failover, whether acknowledged or not
        self.sent: dict[str, bytes] = {}

    async def add(self, token: str, payload: bytes = b"", **plan: Any) -> None:
        self.sent[token] = payload
        try:
            view = await self.ledger.add(token, payload, **plan)
        except (Refused, *UNDONE):
            self.undone.add(token)
        except Ambiguous:
            pass
        else:
            assert_whole(view)
            assert view["attribute"][-1] == token
            self.told[token] = view["attribute"]

    async def look(self) -> None:
        """Check everything that was told against what is there now."""
        try:
            view, payloads = await self.ledger.view(), await self.ledger.payloads()
        except SteadError as exc:
            raise AssertionError("what was acknowledged cannot be read") from exc
        assert_whole(view)
        history = view["attribute"]
        for token, shown in self.told.items():
            seen = [one for one in shown if one not in self.lost]
            assert history[: len(seen)] == seen, f"{token} was acknowledged with {seen}, and now there is {history}"
        gone = self.undone | self.lost
        assert not gone & set(history), f"undone or lost, and still there: {gone & set(history)}"
        assert payloads == {token: self.sent[token] for token in history}


# -- the world's faults ------------------------------------------------------------------------------------------------------------


async def evicting(app: App, chance: Chance, *actors: Any, pause_s: float = 0.2) -> None:
    """Evict actors, as often as they are idle."""
    while True:
        await sleep(pause_s * chance.fraction())
        await app.evict(actors[chance.below(len(actors))])


async def crashing(app: App, chance: Chance, times: int = 2) -> None:
    """Crash at a commit or anywhere else."""
    for _ in range(times):
        await sleep(0.5 * chance.fraction())
        with app.hold_commits() if chance.below(2) else nullcontext():
            await sleep(0.2 * chance.fraction())
            await whole(app.crash())
        with app.hold_commits() if chance.below(2) else nullcontext():
            await sleep(0.1 * chance.fraction())


async def whole(work: Coroutine[Any, Any, None]) -> None:
    """`work` to its end, also if this is cancelled meanwhile: half a restart would be no process at all."""
    async with asyncio.TaskGroup() as tasks:
        restart = tasks.create_task(work)
        try:
            await asyncio.shield(restart)
        except asyncio.CancelledError:
            await restart
            raise


async def failing(app: App, chance: Chance, times: int = 2) -> None:
    """Fill the disk for one commit."""
    for _ in range(times):
        await sleep(0.5 * chance.fraction())
        app.fail_next_commit()


async def holding(app: App, chance: Chance, times: int = 3) -> None:
    """Hold commits back for a while."""
    for _ in range(times):
        await sleep(0.3 * chance.fraction())
        with app.hold_commits():
            await sleep(0.2 * chance.fraction())


async def jumping(app: App, chance: Chance) -> None:
    """Set the wall clock forward and back by up to ten minutes."""
    for _ in range(3):
        await sleep(0.3 * chance.fraction())
        app.clock.jump(chance.below(1_200_000) - 600_000)


@asynccontextmanager
async def beset_by(*faults: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run faults beside the block; what has not ended with it is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(fault) for fault in faults]
        yield
        for task in running:
            task.cancel()


async def together(*work: Awaitable[Any]) -> None:
    """All of `work`, side by side."""
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(_awaited(one))


def find_planted(plant: Plant, scenario: Scenario, seeds: int = SEEDS, first: int = 0) -> None:
    """Plant a bug and find it, from the seed `first` on; without the bug, the seed that shows it shows nothing."""
    with sabotaged(plant):
        seed = find(scenario, seeds, first)
    run(scenario(seed), seed=seed)


async def _awaited(one: Awaitable[T]) -> T:
    return await one
