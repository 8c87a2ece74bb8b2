"""A data directory that is divided among workers: where its actors are, and how the division changes."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed, Invalid, Unavailable
from stead.ids import ActorId, Chance, named_id
from stead.storage.contract import Commit, OwnedElsewhere
from stead.storage.membership import NodeInfo
from stead.storage.sqlite import Shares, SqliteEngine, WorkerEngine, divide, open_data, share_directory, shares_of
from stead.storage.sqlite.layout import share_of

LARGE = b"x" * 20_000  # lies outside the table of entries
ACTORS = [named_id("box", f"actor-{number}") for number in range(60)]
CLOCK = SystemClock()


def silent(done: int, total: int) -> None:
    assert 0 <= done <= total


def contents(number: int) -> dict[bytes, bytes]:
    return {b"kname": f"actor {number}".encode(), b"klarge": LARGE + bytes([number]), **({b"kodd": b"1"} if number % 2 else {})}


async def fill(data: Path) -> None:
    """Actors with entries small and large, alarms, and several commits each."""
    engine = open_data(data, CLOCK)
    for number, actor in enumerate(ACTORS):
        claim = await engine.claim(actor)
        written = contents(number)
        size_bytes = sum(len(key) + len(value) for key, value in written.items())
        first = Commit(actor, claim.epoch, 1, {b"kname": b"first"}, {"": 1_000 + number}, 10, 5)
        second = Commit(actor, claim.epoch, 2, written, {"later": 50_000 + number}, size_bytes, 6 + number)
        assert list(await engine.commit([first, second])) == [True, True]
    await engine.close()


async def check(data: Path) -> None:
    """Every actor is there as it was written, with its place in history, and so is every alarm."""
    engine = open_data(data, CLOCK, read_only=True)
    rows = await engine.actors()
    assert [row.actor.text for row in rows] == sorted(actor.text for actor in ACTORS)
    by_id = {row.actor: row for row in rows}
    for number, actor in enumerate(ACTORS):
        assert dict(await engine.scan(actor, b"", None)) == contents(number)
        row = by_id[actor]
        assert (row.seq, row.created_ms, row.active_ms) == (2, 5, 6 + number)
    due = await engine.due(10**9, 1_000)
    assert [(row.due_ms, row.actor, row.name) for row in due] == [
        *((1_000 + number, actor, "") for number, actor in enumerate(ACTORS)),
        *((50_000 + number, actor, "later") for number, actor in enumerate(ACTORS)),
    ]
    await engine.close()


async def epoch_of(data: Path, actor: ActorId) -> int:
    engine = open_data(data, CLOCK)
    claim = await engine.claim(actor)
    assert claim.seq == 2
    await engine.close()
    return claim.epoch


@pytest.mark.parametrize("counts", [(1, 4), (4, 1), (3, 5), (5, 2, 1, 3)])
def test_a_division_keeps_everything(tmp_path: Path, counts: tuple[int, ...]) -> None:
    """However often the number of workers changes, nothing is lost or doubled, and epochs go on growing."""

    async def main() -> None:
        divide(tmp_path, counts[0], silent)
        await fill(tmp_path)
        for count in counts[1:]:
            epoch = await epoch_of(tmp_path, ACTORS[0])
            divide(tmp_path, count, silent)
            assert shares_of(tmp_path) == count
            await check(tmp_path)
            assert await epoch_of(tmp_path, ACTORS[0]) > epoch
        left = {path.name for path in tmp_path.iterdir()}
        assert left <= {"layout", "lock"} | ({f"shares-{counts[-1]}"} if counts[-1] > 1 else {"stead.sqlite", "made"})

    asyncio.run(main())


@pytest.mark.parametrize("before", [1, 3])
def test_a_division_that_dies_changes_nothing(tmp_path: Path, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is interrupted, the directory is what it was or what it was to be, and the next one begins again."""

    class Death(BaseException):
        pass

    data, moments = tmp_path / "data", 0

    async def main() -> None:
        nonlocal moments
        divide(data, before, silent)
        await fill(data)
        while True:
            copy = tmp_path / f"copy-{moments}"
            shutil.copytree(data, copy)
            seen = 0

            def count_down(moment: int = moments) -> None:
                nonlocal seen
                seen += 1
                if seen > moment:
                    raise Death

            with monkeypatch.context() as patch:
                for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
                    original = getattr(owner, name)

                    def dying(*given: object, original: object = original, **more: object) -> object:
                        count_down()
                        return original(*given, **more)  # type: ignore[operator]

                    patch.setattr(owner, name, dying)
                try:
                    divide(copy, 2, silent)
                    ended = True
                except Death:
                    ended = False
            assert shares_of(copy) in {before, 2}
            await check(copy)
            divide(copy, 2, silent)
            await check(copy)
            shutil.rmtree(copy)
            if ended:
                return
            moments += 1

    asyncio.run(main())
    assert moments > 5


def test_a_directory_in_use_is_not_divided(tmp_path: Path) -> None:
    """Neither a server nor a worker loses its files under it."""

    async def main() -> None:
        engine = SqliteEngine.open(tmp_path, CLOCK)
        with pytest.raises(EngineFailed, match="in use"):
            divide(tmp_path, 2, silent)
        await engine.close()
        divide(tmp_path, 2, silent)
        worker = WorkerEngine.open_worker(tmp_path, 1, CLOCK, Chance(1))
        with pytest.raises(EngineFailed, match="in use"):
            divide(tmp_path, 1, silent)
        await worker.close()

    asyncio.run(main())


def test_one_process_does_not_open_a_divided_directory(tmp_path: Path) -> None:
    """It would begin an empty database beside the shares."""
    divide(tmp_path, 3, silent)
    with pytest.raises(EngineFailed, match="divided among 3 workers"):
        SqliteEngine.open(tmp_path, CLOCK)
    (tmp_path / "layout").write_text("many\n")
    with pytest.raises(EngineFailed, match="number of shares"):
        SqliteEngine.open(tmp_path, CLOCK)


def test_a_worker_owns_its_share(tmp_path: Path) -> None:
    """It claims what is its own, names the worker that has the rest, and asks for patience while there is none."""

    async def main() -> None:
        divide(tmp_path, 2, silent)
        workers = [WorkerEngine.open_worker(tmp_path, index, CLOCK, Chance(index)) for index in range(2)]
        await workers[0].join(NodeInfo("w0", "127.0.0.1:1"), 6.0)
        own = [actor for actor in ACTORS if share_of(actor.text, 2) == 0]
        others = [actor for actor in ACTORS if share_of(actor.text, 2) == 1]
        assert own and others
        claim = await workers[0].claim(own[0])
        assert list(await workers[0].commit([Commit(own[0], claim.epoch, 1, {b"k": b"v"}, {"": 5}, 2, 1)])) == [True]
        with pytest.raises(Unavailable):
            await workers[0].claim(others[0])
        await workers[1].join(NodeInfo("w1", "127.0.0.1:2"), 6.0)
        with pytest.raises(OwnedElsewhere) as raised:
            await workers[0].claim(others[0])
        assert raised.value.owner == workers[1].incarnation == await workers[0].owner(others[0])
        members = await workers[1].renew()
        assert {member.info.name for member in members} == {"w0", "w1"}
        assert all(worker.has_fixed_owners for worker in workers), "an actor could be moved out of its share"
        assert [member.incarnation for member in members] == sorted(member.incarnation for member in members)
        assert await workers[1].due(10, 10) == [] and len(await workers[0].due(10, 10)) == 1
        assert dict(await workers[1].scan(own[0], b"", None)) == {b"k": b"v"}
        assert [row.actor for row in await workers[1].actors()] == [own[0]]
        assert await workers[1].owned() == {workers[0].incarnation: 1, workers[1].incarnation: 0}
        with pytest.raises(Invalid):
            await workers[0].set_draining("w1", True)
        for worker in workers:
            await worker.close()
        assert not any((share_directory(tmp_path, index, 2) / "member").exists() for index in range(2))

    asyncio.run(main())


def test_all_shares_are_one_engine(tmp_path: Path) -> None:
    """Pages of the registry go over all of them in order, by unit and prefix, and nothing is missed between two."""

    async def main() -> None:
        divide(tmp_path, 3, silent)
        await fill(tmp_path)
        engine = Shares.open(tmp_path, CLOCK)
        seen: list[str] = []
        while page := await engine.actors("box", prefix="actor-", after=seen[-1] if seen else "", limit=7):
            seen += [row.actor.text for row in page]
        assert seen == sorted(actor.text for actor in ACTORS)
        assert await engine.next_due_ms() == 1_000
        assert [row.due_ms for row in await engine.due(1_010, 4)] == [1_000, 1_001, 1_002, 1_003]
        await engine.close()

    asyncio.run(main())
