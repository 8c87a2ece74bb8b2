"""`self.storage`: keys, lists, transactions and erasure, against a dictionary."""

from __future__ import annotations

from random import Random  # noqa: TID251 - the seed of each test case
from typing import Any

import pytest

from stead import Actor, DurabilityLost, Invalid, durable
from stead.testing import TestApp, run

pytestmark = pytest.mark.usefixtures("clock")


class Box(Actor):
    value: int = durable(0)

    async def put(self, **values: Any) -> None:
        await self.storage.put_many(values)

    async def do(self, method: str, *args: Any, **named: Any) -> Any:
        return await getattr(self.storage, method)(*args, **named)

    async def apply(self, steps: list[list[Any]]) -> None:
        for key, value in steps:
            if value is None:
                await self.storage.delete(key)
            else:
                await self.storage.put(key, value)

    async def copies(self) -> list[Any]:
        value = [1]
        await self.storage.put("list", value)
        value.append(2)
        got = await self.storage.get("list")
        got.append(3)
        return [await self.storage.get("list"), value, got]

    async def transact(self, how: str) -> list[Any]:
        self.value = 1
        await self.storage.put("before", 1)
        await self.sql.execute("CREATE TABLE t (n)")
        await self.sql.execute("INSERT INTO t VALUES (1)")
        try:
            async with self.storage.transaction():
                self.value = 2
                await self.storage.put("inside", 1)
                await self.storage.delete("before")
                await self.storage.set_alarm(10**12 * 2)
                await self.sql.execute("INSERT INTO t VALUES (2)")
                try:
                    async with self.storage.transaction():
                        self.value = 3
                        await self.storage.put("deep", 1)
                        await self.sql.execute("INSERT INTO t VALUES (3)")
                        if how == "inner":
                            raise ValueError(how)
                except ValueError:
                    pass
                if how == "outer":
                    raise ValueError(how)
                if how == "erase":
                    await self.storage.delete_all()
                if how == "bad value":
                    self.value = object()  # type: ignore[assignment]
        except (ValueError, Invalid):
            pass
        rows = [row["n"] for row in await self.sql.fetch_all("SELECT n FROM t ORDER BY n")]
        return [self.value, sorted(await self.storage.list()), rows, await self.storage.get_alarm() is not None]

    async def state(self) -> list[Any]:
        tables = await self.sql.fetch_value("SELECT count(*) FROM sqlite_schema")
        return [self.value, await self.storage.list(), tables, [alarm.name for alarm in await self.alarms.list()]]

    async def fill(self) -> None:
        self.value = 5
        await self.storage.put("key", 1)
        await self.sql.execute("CREATE TABLE t (n)")
        await self.storage.set_alarm(10**12 * 2)

    async def erase(self, then: str = "") -> list[Any]:
        self.value = 6
        await self.sql.execute("INSERT INTO t VALUES (1)")
        await self.storage.delete_all()
        seen = [self.value, await self.storage.list(), await self.sql.fetch_value("SELECT count(*) FROM sqlite_schema")]
        if then == "fail":
            raise ValueError(then)
        if then == "write":
            self.value = 7
            await self.storage.put("new", 1)
            await self.sql.execute("CREATE TABLE u (n)")
        return seen

    async def alarm(self, alarm: Any) -> None:
        pass


def boxes() -> TestApp:
    return TestApp.of(actors={"box": Box})


async def test_values_are_copied_when_put_and_when_got() -> None:
    """What happens to the object afterwards is not seen."""
    async with boxes() as app:
        assert await app.env.BOX.get("a").copies() == [[1], [1, 2], [1, 3]]


async def test_get_put_delete() -> None:
    """Defaults, None as a value, whether a key existed and how many did, and keys in order."""
    async with boxes() as app:
        box = app.env.BOX.get("a")
        await box.put(b=2, a=None, c=3)
        assert await box.do("get", "a", 5) is None
        assert await box.do("get", "x", 5) == 5
        assert list((await box.do("get_many", ["c", "x", "a"])).items()) == [("a", None), ("c", 3)]
        assert await box.do("delete", "a") is True
        assert await box.do("delete", "a") is False
        assert await box.do("delete_many", ["b", "b", "c", "x"]) == 2
        assert await box.do("list") == {}


@pytest.mark.parametrize(
    ("method", "args", "named", "said"),
    [
        ("put", [5, 1], {}, "a key must be str, got int"),
        ("put", ["k" * 2049, 1], {}, "2,048 bytes"),
        ("get", ["\ud800"], {}, "Unicode"),
        ("put", ["k", b"x" * (2 * 1024 * 1024)], {}, "the limit here is 2,097,152"),
        ("list", [], {"limit": 0}, "limit must be positive"),
        ("list", [], {"start": "a", "start_after": "b"}, "not both"),
        ("list", [3], {}, "a key must be str, got int"),
        ("get", ["n"], {"type": 3}, "cannot be read as"),
        ("put_many", [{"good": 1, "k" * 3000: 1}], {}, "2,048 bytes"),
    ],
)
async def test_a_wrong_call_is_invalid_and_writes_nothing(method: str, args: list[Any], named: dict[str, Any], said: str) -> None:
    """The error names the limit or the type."""
    async with boxes() as app:
        box = app.env.BOX.get("a")
        await box.put(n=1)
        surrogate = args == ["\ud800"]
        with pytest.raises(Invalid, match=said):
            await box.do(method, *args, **named)
        assert surrogate or await box.do("list") == {"n": 1}


@pytest.mark.parametrize("seed", range(12))
def test_lists_are_ordered_by_bytes(seed: int) -> None:
    """Prefix, start, start_after, end, reverse and limit pick what they would of a sorted list of UTF-8 keys."""
    chance = Random(seed)
    alphabet = "aB\x00é\uffff\U0001f600/"

    def word(longest: int) -> str:
        return "".join(chance.choice(alphabet) for _ in range(chance.randrange(longest)))

    async def main() -> None:
        async with boxes() as app:
            box = app.env.BOX.get("a")
            keys = {word(5) for _ in range(60)}
            await box.do("put_many", dict.fromkeys(keys, 1))
            for _ in range(40):
                prefix, reverse = word(3), chance.random() < 0.5
                start, after, end = (chance.choice([None, word(4)]) for _ in range(3))
                if start is not None:
                    after = None
                limit = chance.choice([None, 1, 3])
                expected = [
                    key
                    for key in sorted(keys, key=str.encode, reverse=reverse)
                    if key.startswith(prefix)
                    and (start is None or key.encode() >= start.encode())
                    and (after is None or key.encode() > after.encode())
                    and (end is None or key.encode() < end.encode())
                ]
                found = await box.do("list", prefix, start=start, start_after=after, end=end, reverse=reverse, limit=limit)
                assert list(found) == expected[:limit]

    run(main, seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_large_actors_behave_like_small_ones(seed: int) -> None:
    """Past 256 KiB and 1 MiB, across evictions, lost commits and crashes, storage is a dictionary."""
    chance = Random(seed)

    async def main() -> None:
        async with boxes() as app:
            box = app.env.BOX.get("a")
            model: dict[str, Any] = {}
            for _ in range(40):
                steps: list[Any] = []
                for _ in range(chance.randrange(1, 12)):
                    value = None if chance.random() < 0.3 else "x" * chance.choice([1, 100, 90_000])
                    steps.append([f"k{chance.randrange(40)}", value])
                if chance.random() < 0.15:
                    app.fail_next_commit()
                try:
                    await box.apply(steps)
                    model.update(dict(steps))
                except DurabilityLost:
                    pass
                model = {key: value for key, value in model.items() if value is not None}
                if chance.random() < 0.03:
                    await box.do("delete_all")
                    model.clear()
                if chance.random() < 0.2:
                    await app.evict(box)
                if chance.random() < 0.1:
                    await app.crash()
                assert await box.do("list") == {key: model[key] for key in sorted(model)}
                key = f"k{chance.randrange(40)}"
                assert await box.do("get", key) == model.get(key)

    run(main, seed=seed)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("", [3, ["deep", "inside"], [1, 2, 3], True]),
        ("inner", [2, ["inside"], [1, 2], True]),
        ("outer", [1, ["before"], [1], False]),
        ("erase", [1, ["before"], [1], False]),
        ("bad value", [1, ["before"], [1], False]),
    ],
)
async def test_a_transaction_rolls_back_alone(how: str, expected: list[Any]) -> None:
    """Keys, SQL, attributes and alarms go back to the beginning of the one that raised, and the turn goes on."""
    async with boxes() as app:
        box = app.env.BOX.get("a")
        assert await box.transact(how) == expected
        await app.evict(box)
        value, keys, _, alarms = await box.state()
        assert [value, sorted(keys), bool(alarms)] == [expected[0], expected[1], expected[3]]


async def test_delete_all_erases_everything() -> None:
    """Keys, SQL, attributes and alarms, at once and on the disk; an empty actor is not listed."""
    async with boxes() as app:
        box = app.env.BOX.get("a")
        await box.fill()
        assert await box.erase() == [0, {}, 0]
        for _ in range(2):
            assert await box.state() == [0, {}, 0, []]
            await app.evict(box)
        assert (await app.env.BOX.list()).actors == []


async def test_delete_all_of_a_turn_that_fails_erased_nothing() -> None:
    """All of it is back, in memory and on the disk; after a successful one the actor can be written again."""
    async with boxes() as app:
        box = app.env.BOX.get("a")
        await box.fill()
        before = await box.state()
        with pytest.raises(ValueError):
            await box.erase("fail")
        for _ in range(2):
            assert await box.state() == before
            await app.evict(box)
        await box.erase("write")
        for _ in range(2):
            assert await box.state() == [7, {"new": 1}, 1, []]
            await app.evict(box)
