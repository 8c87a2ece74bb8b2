"""What an engine tells of what is committed: entries, alarms that are due, the registry."""

from __future__ import annotations

from collections.abc import Iterable

from stead.ids import Chance, named_id, unique_id
from stead.storage.contract import ActorRow, AlarmRow, Engine
from stead.testing.conformance.opening import Openable, checked
from stead.testing.conformance.turns import A, B, claimed

NASTY_NAMES = ("a/b", "a%2Fb", "a", "b", "é", "e\u0301", " ", "a ", "a~b", "A", "'; DROP TABLE", "%", "_", "🛒", "x" * 1024)


def texts(rows: Iterable[ActorRow]) -> list[str]:
    return [row.actor.text for row in rows]


class Reads(Openable):
    @checked
    async def test_read(self, engine: Engine) -> None:
        """Only keys that exist are answered; an empty value exists; keys are matched whole and never across actors."""
        a, b = await claimed(engine, A), await claimed(engine, B)
        await engine.commit([a.turn({b"k": b"", b"kk": b"2"}), b.turn({b"x": b"b"})])
        assert await engine.read(A, [b"k", b"kk", b"kkk", b"x"]) == {b"k": b"", b"kk": b"2"}
        assert await engine.read(A, []) == {}
        assert await engine.read(A, [b"", b"k"]) == {b"k": b""}

    @checked
    async def test_scan_order_bounds_and_limits(self, engine: Engine) -> None:
        """Scans go by key bytes, from start (inside) to end (outside), either way, up to the limit."""
        keys = [b"", b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
        turns, other = await claimed(engine, A), await claimed(engine, B)
        await engine.commit([turns.turn({key: b"v" + key for key in reversed(keys)}), other.turn({b"a1": b"other"})])
        for start in (b"", b"a", b"a\x01", b"\xff\xff\xff"):
            for end in (None, b"", b"a", b"b", b"\x80", b"\xff\xff\xff"):
                inside = [(key, b"v" + key) for key in sorted(keys) if start <= key and (end is None or key < end)]
                assert await engine.scan(A, start, end) == inside
                assert await engine.scan(A, start, end, reverse=True) == inside[::-1]
                for limit in (0, 1, 3, 100):
                    assert await engine.scan(A, start, end, limit=limit) == inside[:limit]
                    assert await engine.scan(A, start, end, reverse=True, limit=limit) == inside[::-1][:limit]


class Alarms(Openable):
    @checked
    async def test_due_order_bounds_and_ties(self, engine: Engine) -> None:
        """Due alarms come earliest first, ties by the actor's id and then by name, up to the limit; the bound is inside."""
        b, a = await claimed(engine, B), await claimed(engine, A)
        await engine.commit([b.turn(alarms={"z": 10, "": 10, "é": 10, "early": -5}), a.turn(alarms={"b": 10, "a": 11})])
        rows = [(-5, B, "early"), (10, A, "b"), (10, B, ""), (10, B, "z"), (10, B, "é"), (11, A, "a")]
        expected = [AlarmRow(*row) for row in rows]
        assert await engine.due(11, 100) == expected
        assert await engine.due(10, 100) == expected[:5]
        assert await engine.due(9, 100) == expected[:1]
        assert await engine.due(11, 2) == expected[:2]
        assert await engine.due(11, 0) == []
        assert await engine.next_due_ms() == -5

    @checked
    async def test_alarms_move_and_go(self, engine: Engine) -> None:
        """An alarm set again moves; one removed is gone; removing none is nothing; reading the index consumes nothing."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn(alarms={"x": 10, "y": 20})])
        await engine.commit([turns.turn(alarms={"x": 30, "nothing": None})])
        assert await engine.next_due_ms() == 20
        assert await engine.due(99, 9) == await engine.due(99, 9) == [AlarmRow(20, A, "y"), AlarmRow(30, A, "x")]
        await engine.commit([turns.turn(alarms={"x": None, "y": None})])
        assert await engine.due(99, 9) == []
        assert await engine.next_due_ms() is None


class Registry(Openable):
    @checked
    async def test_rows(self, engine: Engine) -> None:
        """A line shows the id, the epoch and seq of the last commit, its size, and when it was first and last written."""
        turns = await claimed(engine, A)
        await engine.commit([turns.turn({b"k": b"v"}, size_bytes=2)])
        turns = await claimed(engine, A)
        turns.at_ms = 5_000
        await engine.commit([turns.turn({b"k": b"vv"}, size_bytes=3)])
        assert await engine.actors() == [ActorRow(A, turns.claim.epoch, 2, 3, 1_001, 5_002)]

    @checked
    async def test_order_pages_and_filters(self, engine: Engine) -> None:
        """Lists go by the id's text; unit, name prefix, position and limit narrow them, and pages join without a gap."""
        chance = Chance(1)
        everyone = [named_id("cart", name) for name in NASTY_NAMES]
        everyone += [named_id(unit, name) for unit in ("car", "cart-old", "carta") for name in ("a", "b")]
        everyone += [unique_id(unit, chance) for unit in ("cart", "cart", "zoo")]
        await engine.commit([(await claimed(engine, actor)).turn() for actor in everyone])
        emptied = await claimed(engine, named_id("cart", "emptied"))
        await engine.commit([emptied.turn(size_bytes=0)])
        for unit in (None, "cart", "car", "carta", "zoo", "none"):
            for prefix in ("", "a", "a%", "é", "_", "none"):
                matching = sorted(
                    actor.text
                    for actor in everyone
                    if unit in {None, actor.unit} and (not prefix or (actor.name or "").startswith(prefix))
                )
                assert texts(await engine.actors(unit, prefix=prefix)) == matching
                assert texts(await engine.actors(unit, prefix=prefix, limit=2)) == matching[:2]
                for position in ("cart/a", "cart/b", "cart~", "cart/nobody", "zzz"):
                    after = [text for text in matching if text > position]
                    assert texts(await engine.actors(unit, prefix=prefix, after=position)) == after
        assert await self._pages(engine, 3) == sorted(actor.text for actor in everyone)

    @staticmethod
    async def _pages(engine: Engine, limit: int) -> list[str]:
        seen: list[str] = []
        while rows := await engine.actors(limit=limit, after=seen[-1] if seen else ""):
            seen += texts(rows)
        return seen

    @checked
    async def test_nasty_names_never_meet(self, engine: Engine) -> None:
        """Actors whose names look alike keep their own entries and alarms, and come back with their own names."""
        everyone = [named_id("cart", name) for name in NASTY_NAMES] + [unique_id("cart", Chance(seed)) for seed in (1, 2)]
        batch = [(await claimed(engine, actor)).turn({b"k": actor.text.encode()}, alarms={"": 1}) for actor in everyone]
        assert await engine.commit(batch) == [True] * len(everyone)
        for actor in everyone:
            assert (await engine.claim(actor)).entries == {b"k": actor.text.encode()}
        assert [row.actor for row in await engine.due(1, 100)] == sorted(everyone, key=lambda actor: actor.text)
        assert {(row.actor.unit, row.actor.name) for row in await engine.actors()} == {
            (actor.unit, actor.name) for actor in everyone
        }
