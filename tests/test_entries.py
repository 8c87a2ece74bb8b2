"""An actor's entries as a turn sees them: like a dictionary, whatever is pending, however large the actor is."""

from __future__ import annotations

from random import Random  # noqa: TID251 - the seed of each test case
from typing import Any

import pytest

from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.contract import LOAD_BYTES_MAX, Commit
from stead.storage.entries import CACHE_BYTES_MAX, WHOLE_BYTES_MAX, Entries, Layer, range_end
from stead.storage.memory import MemoryEngine
from stead.testing.loop import run

ACTOR = named_id("unit", "a")
PART_BYTES = 60_000  # a value; WHOLE_BYTES_MAX is reached with about 18 of them
BIG: dict[str, Any] = {f"big{i:02}": b"x" * PART_BYTES for i in range(WHOLE_BYTES_MAX // PART_BYTES + 1)}


class Bench:
    """Entries over an engine whose commits become durable when the test says so."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.pending: list[Commit] = []
        self.seq = 0

    async def open(self) -> None:
        claim = await self.engine.claim(ACTOR)
        self.epoch, self.seq = claim.epoch, claim.seq
        self.entries = Entries(ACTOR, claim, self.engine)

    async def commit(self, layer: Layer) -> None:
        """As a turn's end does it."""
        while unlearned := self.entries.unlearned(layer):
            await self.entries.learn(unlearned)
        size_bytes = self.entries.size_after(layer)
        self.seq += 1
        self.entries.apply(layer, size_bytes, self.seq)
        self.pending.append(Commit(ACTOR, self.epoch, self.seq, layer.writes, {}, size_bytes, 1, layer.erased))

    async def settle(self, count: int | None = None) -> None:
        """Make the first `count` pending commits durable."""
        batch, self.pending = self.pending[:count], [] if count is None else self.pending[count:]
        for commit in batch:
            assert await self.engine.commit([commit]) == [True]
            self.entries.settle(commit.seq)

    async def write(self, *, erase: bool = False, **values: bytes | None) -> None:
        layer = Layer()
        if erase:
            layer.erase()
        layer.writes.update({name.encode(): value for name, value in values.items()})
        await self.commit(layer)

    async def grow(self) -> None:
        """Make it larger than what is held whole."""
        await self.write(**BIG)


def on_bench(test: Any) -> None:
    async def main() -> None:
        bench = Bench()
        await bench.open()
        await test(bench)

    run(main)


async def check(bench: Bench, layers: list[Layer], model: dict[bytes, bytes], chance: Random) -> None:
    """Every way to read agrees with the model."""
    entries = bench.entries
    keys = sorted({*model, *(b"%03d" % chance.randrange(60) for _ in range(4))})
    assert await entries.get_many(keys, layers) == {key: model[key] for key in keys if key in model}
    for key in chance.sample(keys, min(3, len(keys))):
        assert await entries.get(key, layers) == model.get(key)
    start, end = sorted((b"%03d" % chance.randrange(60), b"%03d" % chance.randrange(60)))
    for limit in (None, 1, chance.randrange(1, 10)):
        reverse = chance.random() < 0.5
        expected = sorted(((key, value) for key, value in model.items() if start <= key < end), reverse=reverse)
        assert await entries.scan(start, end, layers, reverse=reverse, limit=limit) == expected[:limit]
    assert await entries.scan(b"", None, layers) == sorted(model.items())


@pytest.mark.parametrize("seed", range(60))
def test_entries_are_a_dictionary(seed: int) -> None:
    """Random writes, deletes, erasures, transactions, delayed commits and reopenings never show but in what is stored."""
    chance = Random(seed)
    value_bytes = chance.choice([20, 4_000, PART_BYTES])

    def fill(layer: Layer, model: dict[bytes, bytes]) -> None:
        if chance.random() < 0.04:
            layer.erase()
            model.clear()
        for _ in range(chance.randrange(8)):
            key = b"%03d" % chance.randrange(60)
            if chance.random() < 0.35:
                layer.writes[key] = None
                model.pop(key, None)
            else:
                layer.writes[key] = model[key] = chance.randbytes(8) + b"x" * chance.randrange(value_bytes)

    async def test(bench: Bench) -> None:
        model: dict[bytes, bytes] = {}
        for _ in range(40):
            outer, inner = Layer(), Layer()
            fill(outer, model)
            kept = dict(model)
            fill(inner, model)
            await check(bench, [outer, inner], model, chance)
            if chance.random() < 0.3:
                model = kept
            else:
                outer.merge(inner)
            await bench.commit(outer)
            await check(bench, [Layer()], model, chance)
            assert bench.entries.size_bytes == sum(len(key) + len(value) for key, value in model.items())
            await bench.settle(chance.randrange(4))
            await check(bench, [], model, chance)
            if chance.random() < 0.1:
                await bench.settle()
                await bench.open()
        await bench.settle()
        assert bench.engine.store.actors[ACTOR.text].entries == model

    on_bench(test)


def test_a_deleted_key_stays_deleted_while_the_actor_outgrows_memory() -> None:
    """The engine still has a key whose deletion is pending; the commit that makes the actor large must not bring it back."""

    async def test(bench: Bench) -> None:
        await bench.write(gone=b"1", late=b"2")
        await bench.settle()
        await bench.write(gone=None)
        await bench.grow()
        await bench.write(late=None)
        for _ in range(4):
            assert await bench.entries.get_many([b"gone", b"late"], ()) == {}
            assert await bench.entries.scan(b"g", b"m", ()) == []
            await bench.settle(1)

    on_bench(test)


def test_an_erased_actor_stays_empty_while_it_outgrows_memory() -> None:
    """What a pending `delete_all` erased does not shine through, even if the same commit writes more than is held whole."""

    async def test(bench: Bench) -> None:
        await bench.write(old=b"1")
        await bench.settle()
        await bench.write(erase=True, **BIG)
        assert await bench.entries.get(b"old", ()) is None
        await bench.settle()
        assert await bench.entries.get(b"old", ()) is None
        assert not bench.entries.whole
        await bench.write(erase=True, new=b"1")
        assert await bench.entries.scan(b"", None, ()) == [(b"new", b"1")]

    on_bench(test)


def test_a_large_actor_is_read_by_key_and_what_is_pending_from_memory() -> None:
    """Memory is bounded by the cache once commits are durable; until then nothing of them is dropped."""

    async def test(bench: Bench) -> None:
        await bench.grow()
        assert bench.entries.cached_bytes > WHOLE_BYTES_MAX
        await bench.settle()
        assert bench.entries.cached_bytes <= CACHE_BYTES_MAX
        await bench.grow()
        assert bench.entries.cached_bytes > CACHE_BYTES_MAX
        assert await bench.entries.get(b"big00", ()) == b"x" * PART_BYTES
        await bench.settle()
        assert bench.entries.cached_bytes <= CACHE_BYTES_MAX
        assert await bench.entries.get(b"big00", ()) == b"x" * PART_BYTES

    on_bench(test)


def test_what_was_scanned_in_part_need_not_be_read_again() -> None:
    """Whoever takes the first entries of a large actor one after the other deletes them without asking the engine."""

    async def test(bench: Bench) -> None:
        await bench.grow()
        await bench.settle()
        rows = await bench.entries.scan(b"", None, (), limit=3)
        await bench.engine.close()
        layer = Layer()
        for key, value in rows:
            assert await bench.entries.get(key, ()) == value
            layer.writes[key] = None
        assert bench.entries.unlearned(layer) == []
        assert bench.entries.cached_bytes <= CACHE_BYTES_MAX

    on_bench(test)


def test_asking_for_what_does_not_exist_costs_bounded_memory() -> None:
    """That a key is missing is remembered within the cache's bound: clients choose keys."""

    async def test(bench: Bench) -> None:
        await bench.grow()
        await bench.settle()
        for number in range(600):
            assert await bench.entries.get(b"%02000d" % number, ()) is None
        assert bench.entries.cached_bytes <= CACHE_BYTES_MAX
        assert len(bench.entries._cache) <= CACHE_BYTES_MAX // 2000 + 1

    on_bench(test)


def test_a_small_actor_is_loaded_whole_and_asks_nobody() -> None:
    """Reads of an actor below the bound need no engine, so a failing one does not disturb them."""

    async def test(bench: Bench) -> None:
        await bench.write(a=b"1", b=b"x" * (LOAD_BYTES_MAX - 3))
        await bench.settle()
        await bench.open()
        await bench.engine.close()
        assert bench.entries.whole
        assert await bench.entries.get(b"a", ()) == b"1"
        assert await bench.entries.scan(b"", b"b", ()) == [(b"a", b"1")]

    on_bench(test)


def test_an_engine_that_cannot_read_is_an_error_and_forgets_nothing() -> None:
    """A failing read says so and leaves no false memory of a missing key."""

    async def test(bench: Bench) -> None:
        await bench.grow()
        await bench.settle()
        store = bench.engine.store
        await bench.engine.close()
        with pytest.raises(EngineFailed):
            await bench.entries.get(b"big00", ())
        bench.engine = bench.entries._engine = MemoryEngine(store)
        assert await bench.entries.get(b"big00", ()) == b"x" * PART_BYTES

    on_bench(test)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"k", b"l"), (b"ka", b"kb"), (b"k\xff", b"l"), (b"\xff\xff", None), (b"", None), (b"k\x00", b"k\x01")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes | None) -> None:
    """The first key after all that begin with the prefix."""
    assert range_end(prefix) == end
