"""Moving all actors from one engine to another: nothing is lost, nothing is seen before it is whole, and what differs is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from stead.clock import SystemClock
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.contract import Commit, Engine
from stead.storage.sqlite import DirectoryLock, SqliteEngine, divide, share_directory
from stead.storage.sqlite.file import BUILDING
from stead.storage.sqlite.transfer import SqliteSource, SqliteTarget
from stead.storage.transfer import History, Moved, Part, compare, move

Actors = dict[str, tuple[int, dict[bytes, bytes], dict[str, int]]]
"""By name: how many commits, then what is there."""

SAMPLE: Actors = {
    "full": (3, {b"\x00": b"", b"k": b"v" * 3_000, b"large": b"x" * 2_000_000}, {"": 5, "later\x00ä": 2**40}),
    "emptied": (4, {}, {}),
    "many": (2, {b"%06d" % number: b"%d" % number for number in range(9_000)}, {f"a{number}": number for number in range(5_000)}),
    "alarm only": (1, {}, {"x": -1}),
}


class Silent:
    """Nobody watches."""

    copied_bytes = compared_bytes = 0

    def copied(self, size_bytes: int) -> None:
        self.copied_bytes += size_bytes

    def compared(self, size_bytes: int) -> None:
        self.compared_bytes += size_bytes


async def fill(engine: Engine, actors: Actors) -> None:
    for number, (name, (commits, entries, alarms)) in enumerate(actors.items()):
        actor = named_id("box", name)
        claim = await engine.claim(actor)
        for seq in range(1, commits + 1):
            is_last = seq == commits
            size_bytes = sum(len(key) + len(value) for key, value in entries.items()) if is_last else 5
            writes = {**entries, b"gone": None} if is_last else {b"gone": b"soon"}
            due = {**alarms, "gone": None} if is_last else {"gone": 1}
            commit = Commit(actor, claim.epoch, seq, writes, due, size_bytes, 1_000 * number + seq)
            assert await engine.commit([commit]) == [True]
        await engine.release(actor, claim.epoch)


async def made(place: Path, actors: Actors = SAMPLE) -> Path:
    engine = SqliteEngine.open(place, SystemClock())
    await fill(engine, actors)
    await engine.close()
    return place


async def moved(source: Path, target: Path, damage: Callable[[SqliteTarget], None] = lambda target: None) -> Moved:
    original, copy = SqliteSource.open(source), SqliteTarget.open(target)
    try:
        return await move(original, Damaged(copy, damage), Silent())
    finally:
        await copy.close()
        await original.close()


class Damaged:
    """A target that something happens to between the writing and the reading."""

    def __init__(self, target: SqliteTarget, damage: Callable[[SqliteTarget], None]) -> None:
        self._target = target
        self._damage = damage
        self.write, self.publish, self.close = target.write, target.publish, target.close

    async def parts(self) -> AsyncIterator[Part]:
        async for _ in self._target.parts():
            break
        self._damage(self._target)
        async for part in self._target.parts():
            yield part


def test_a_move_keeps_all_there_is(tmp_path: Path) -> None:
    """Entries of any size, alarms, times and the number of the last commit, also of an actor that holds nothing any more."""

    async def work() -> None:
        await made(tmp_path / "a")
        found = await moved(tmp_path / "a", tmp_path / "b")
        assert (found.actors, found.entries, found.alarms) == (4, 9_003, 5_003)
        engine = SqliteEngine.open(tmp_path / "b", SystemClock(), deep_check=True)
        for name, (commits, entries, _) in SAMPLE.items():
            claim = await engine.claim(named_id("box", name))
            assert claim.seq == commits
            assert dict(await engine.scan(named_id("box", name), b"", None)) == entries
        rows = {row.actor.name: (row.created_ms, row.active_ms) for row in await engine.actors()}
        assert rows == {"full": (1, 3), "many": (2_001, 2_002)}
        due = await engine.due(2**50, 10_000)
        assert {(row.actor.name, row.name): row.due_ms for row in due} == {
            (name, alarm): due_ms for name, (_, _, alarms) in SAMPLE.items() for alarm, due_ms in alarms.items()
        }
        await engine.close()
        again = await moved(tmp_path / "b", tmp_path / "c")
        assert again == found
        assert not (tmp_path / "c" / BUILDING).exists()

    asyncio.run(work())


def test_a_directory_that_is_not_filled_is_not_served(tmp_path: Path) -> None:
    """What a move left that was killed is no empty database: it is filled by another one, or removed on purpose."""

    async def work() -> None:
        await made(tmp_path / "a")
        (tmp_path / "b" / BUILDING).mkdir(parents=True)
        for start in (lambda: SqliteEngine.open(tmp_path / "b", SystemClock()), lambda: divide(tmp_path / "b", 2, lambda *_: None)):
            with pytest.raises(EngineFailed, match="run it again to its end, or remove .*moving to start empty"):
                start()
        await moved(tmp_path / "a", tmp_path / "b")
        await SqliteEngine.open(tmp_path / "b", SystemClock()).close()

    asyncio.run(work())


def test_a_divided_directory_is_moved_whole(tmp_path: Path) -> None:
    """Whatever the number of its shares, to the same digest; while any worker runs it is refused, and it is no target."""

    async def work() -> None:
        await made(tmp_path / "a")
        whole = await moved(tmp_path / "a", tmp_path / "b")
        divide(tmp_path / "a", 3, lambda done, total: None)
        assert await moved(tmp_path / "a", tmp_path / "c") == whole
        with pytest.raises(EngineFailed, match="is divided among workers"):
            SqliteTarget.open(tmp_path / "a")
        lock = DirectoryLock(share_directory(tmp_path / "a", 1, 3))
        with pytest.raises(EngineFailed, match="in use by process"):
            SqliteSource.open(tmp_path / "a")
        lock.release()
        SqliteSource.open(tmp_path / "a")

    asyncio.run(work())


def test_progress_comes_to_what_there_is(tmp_path: Path) -> None:
    """So that a bar that shows it ends at its end."""

    async def work() -> None:
        await made(tmp_path / "a")
        source, target, progress = SqliteSource.open(tmp_path / "a"), SqliteTarget.open(tmp_path / "b"), Silent()
        totals = await source.totals()
        await move(source, target, progress)
        assert progress.copied_bytes == progress.compared_bytes == totals.size_bytes
        assert (totals.actors, totals.commits) == (4, 10)
        await target.close()
        await source.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE entries SET value = x'00' WHERE key = x'6b'", "box/full is not the same in the copy (entries)"),
        ("DELETE FROM entries WHERE key = x'303038393939'", "box/many is not the same in the copy (entries)"),
        ("UPDATE large SET value = substr(value, 2)", "box/full is not the same in the copy (entries)"),
        ("DELETE FROM alarms WHERE name = ''", "box/full is not the same in the copy (alarms)"),
        ("UPDATE alarms SET due_ms = 0 WHERE name = 'x'", "box/alarm only is not the same in the copy (alarms)"),
        (
            "UPDATE entries SET value = CAST(substr(value, 1, 8) || x'0000000000000003' || substr(value, 17) AS BLOB) "
            "WHERE key = 0 AND actor = 2",
            "box/emptied is not the same in the copy (history)",
        ),
        ("UPDATE actors SET created_ms = 7 WHERE number = 3", "box/many is not the same in the copy (history)"),
        ("DELETE FROM actors WHERE number = 1; DELETE FROM entries WHERE actor = 1; DELETE FROM alarms WHERE actor = 'box/full'",
         "the copy lacks box/full"),
        (
            "INSERT INTO actors VALUES (9, 'box/z', 1); INSERT INTO entries SELECT 9, 0, value FROM entries WHERE actor = 2",
            "the copy has box/z",
        ),
        ("INSERT INTO entries VALUES (7, x'00', x'00')", "entries of an actor that is not in the registry"),
        ("INSERT INTO alarms VALUES ('box/nobody', '', 1)", "alarms of an actor that is not in the registry"),
    ],
)  # fmt: skip
def test_what_differs_is_found_and_not_published(tmp_path: Path, statement: str, said: str) -> None:
    """One entry changed or gone, one alarm lost, a wrong number of commits: the actor is named, and the target stays empty."""

    def damage(target: SqliteTarget) -> None:
        with closing(apsw.Connection(str(tmp_path / "b" / BUILDING / "stead.sqlite"))) as connection:
            connection.execute(statement)

    async def work() -> None:
        await made(tmp_path / "a")
        with pytest.raises(EngineFailed) as caught:
            await moved(tmp_path / "a", tmp_path / "b", damage)
        assert said in str(caught.value)
        assert not (tmp_path / "b" / "stead.sqlite").exists()
        assert (await moved(tmp_path / "a", tmp_path / "b")).actors == 4

    asyncio.run(work())


def test_a_directory_in_use_is_neither_source_nor_target(tmp_path: Path) -> None:
    """A server that runs keeps its directory to itself, and says who it is."""

    async def work() -> None:
        engine = SqliteEngine.open(tmp_path / "a", SystemClock())
        with pytest.raises(EngineFailed, match="in use by process"):
            SqliteSource.open(tmp_path / "a")
        with pytest.raises(EngineFailed, match="in use by process"):
            SqliteTarget.open(tmp_path / "a")
        await engine.close()

    asyncio.run(work())


def test_a_server_cannot_start_on_what_is_being_moved(tmp_path: Path) -> None:
    """The directories are locked until the move has ended."""

    async def work() -> None:
        source, target = SqliteSource.open(await made(tmp_path / "a")), SqliteTarget.open(tmp_path / "b")
        for place in ("a", "b"):
            with pytest.raises(EngineFailed, match="in use by process"):
                SqliteEngine.open(tmp_path / place, SystemClock())
        await target.close()
        await source.close()
        SqliteEngine.open(tmp_path / "b", SystemClock())

    asyncio.run(work())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A target with actors is refused; one that a server has opened and not used is not."""

    async def work() -> None:
        await made(tmp_path / "a")
        await made(tmp_path / "b", {"x": SAMPLE["full"]})
        await made(tmp_path / "c", {})
        with pytest.raises(EngineFailed, match="has actors already"):
            SqliteTarget.open(tmp_path / "b")
        assert (await moved(tmp_path / "a", tmp_path / "c")).actors == 4
        assert (await moved(tmp_path / "c", tmp_path / "d")).actors == 4

    asyncio.run(work())


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    """No directory, or none with a database: nothing is made there."""
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        with pytest.raises(EngineFailed, match="there is no"):
            SqliteSource.open(tmp_path / place)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_digest_depends_on_everything_but_the_order(tmp_path: Path) -> None:
    """Equal for the same actors in another order; another for any change, also where bytes move from a key to its value."""

    async def parts(actors: Sequence[Part]) -> AsyncIterator[Part]:
        for part in actors:
            yield part

    async def digest(*actors: Part) -> str:
        return (await compare(parts(actors), parts(actors))).digest

    def part(name: str, seq: int, entries: list[tuple[bytes, bytes]], alarms: list[tuple[str, int]]) -> Part:
        return Part(History(name, seq, 1, 1, 1), True, entries, alarms)

    async def work() -> None:
        first, second = part("a", 1, [(b"ab", b"c")], [("a", 1)]), part("b", 1, [], [])
        same = await digest(first, second)
        assert await digest(second, first) == same
        others = [
            (msgspec.structs.replace(first, entries=[(b"a", b"bc")]), second),
            (msgspec.structs.replace(first, alarms=[("a", 2)]), second),
            (part("a", 2, [(b"ab", b"c")], [("a", 1)]), second),
            (first,),
            (first, second, part("c", 1, [], [])),
            (part("b", 1, [(b"ab", b"c")], [("a", 1)]), part("a", 1, [], [])),
        ]
        found = [await digest(*other) for other in others]
        assert same not in found and len(set(found)) == len(found)

    asyncio.run(work())
