"""KV caches: a dictionary that lasts, expires what is over, and says which reads may be old."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from stead import Actor, Invalid
from stead.bindings import Binding, KvCache, KvShard
from stead.bindings.kv.client import KEY_BYTES_MAX, VALUE_BYTES_MAX
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import TestApp, check

pytestmark = pytest.mark.usefixtures("clock")


def cache_of(ttl_s: float = 0.0) -> Binding:
    return Binding(KvShard, partial(KvCache, cache_ttl_s=ttl_s))


def with_kv(ttl_s: float = 0.0) -> TestApp:
    return TestApp.of(actors={"writer": Writer}, bindings={"kv": cache_of(ttl_s)})


class Writer(Actor):
    """Uses the cache from inside a turn, as another unit would."""

    async def note(self, key: str, value: Any) -> None:
        await self.env.KV.put(key, value)

    async def read(self, key: str) -> Any:
        return await self.env.KV.get(key, "json")


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 700_000


async def test_values_come_back_in_the_type_asked_for() -> None:
    """Text, bytes, JSON and streams; large ones too; what is not of the type is an error."""
    async with with_kv() as app:
        kv: KvCache = app.env.KV
        await kv.put("text", "grüße")
        await kv.put("json", {"a": [1, None]}, metadata={"by": "ann"})
        await kv.put("large", chunks())
        await kv.put("empty", b"")
        assert await kv.get("text") == "grüße"
        assert await kv.get("json", "json") == {"a": [1, None]}
        assert (await kv.get_with_metadata("json", "json")).metadata == {"by": "ann"}
        assert await kv.get("large", "bytes") == b"x" * 2_100_000
        assert b"".join([chunk async for chunk in await kv.get("large", "stream")]) == b"x" * 2_100_000
        assert await kv.get("empty", "bytes") == b""
        assert await kv.get("none") is None
        assert await kv.get(["text", "none", "large"], "bytes") == {
            "text": "grüße".encode(),
            "none": None,
            "large": b"x" * 2_100_000,
        }
        with pytest.raises(Invalid, match="no json"):
            await kv.get("text", "json")
        await kv.put("large", "small now")
        await app.crash()
        assert await kv.get("large") == "small now"
        await kv.delete("large")
        await kv.delete("large")
        assert await kv.get("large") is None


async def test_bad_input_is_refused_before_anything_is_written() -> None:
    """Keys, values, metadata and times out of bounds."""
    async with with_kv() as app:
        kv: KvCache = app.env.KV
        wrong_keys: list[Any] = ["", "x" * (KEY_BYTES_MAX + 1), "a\0b", 5]
        for key in wrong_keys:
            with pytest.raises(Invalid):
                await kv.put(key, "v")
            with pytest.raises(Invalid):
                await kv.get(key)
        with pytest.raises(Invalid, match="limit"):
            await kv.put("k", b"x" * (VALUE_BYTES_MAX + 1))
        with pytest.raises(Invalid, match="metadata"):
            await kv.put("k", "v", metadata="x" * 1100)
        with pytest.raises(Invalid, match="either"):
            await kv.put("k", "v", expiration=2e9, expiration_ttl=5)
        wrong_times: list[dict[str, Any]] = [{"expiration_ttl": 0}, {"expiration": 5}, {"expiration": float("nan")}]
        for wrong in wrong_times:
            with pytest.raises(Invalid):
                await kv.put("k", "v", **wrong)
        with pytest.raises(Invalid, match="JSON"):
            await kv.put("k", {"a": object()})
        assert (await kv.list()).keys == []


async def test_what_has_expired_is_gone_and_swept() -> None:
    """For readers at the moment, from storage soon after; a key set again follows its new time."""
    async with with_kv() as app:
        kv: KvCache = app.env.KV
        for number in range(30):
            await kv.put(f"k{number:02}", "v", expiration_ttl=60)
        await kv.put("kept", "v")
        await kv.put("longer", "v", expiration_ttl=60)
        await kv.put("longer", "w", expiration=app.env.now() + timedelta(seconds=600))
        await sleep(59)
        assert len((await kv.list("k0")).keys) == 10
        await sleep(1.1)
        assert await kv.get("k00") is None
        assert [key.name for key in (await kv.list()).keys] == ["kept", "longer"]
        await app.crash()
        await sleep(20)
        sizes = {actor.id.text: actor.size_bytes for actor in (await kv._namespace.list()).actors}
        assert sum(sizes.values()) < 400, sizes
        assert await kv.get("longer") == "w"


async def test_lists_come_in_pages() -> None:
    """In the order of the keys' bytes, whole, whatever the page size."""
    async with with_kv() as app:
        kv: KvCache = app.env.KV
        names = [f"{prefix}:{number}" for prefix in ("a", "b", "é") for number in range(25)]
        for name in names:
            await kv.put(name, "v", metadata=name)
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await kv.list("b", limit=7, cursor=cursor)
            assert all(key.metadata == key.name for key in page.keys)
            seen += [key.name for key in page.keys]
            cursor = page.cursor
            if page.list_complete:
                break
        assert seen == sorted(name for name in names if name.startswith("b"))
        assert [key.name for key in (await kv.list()).keys] == sorted(names, key=str.encode)


async def test_cached_reads_are_bounded_in_age_and_see_own_writes() -> None:
    """With cache_ttl_s a read may be that old, not older; a write through the same node is seen at once."""
    async with with_kv(ttl_s=5) as app:
        kv: KvCache = app.env.KV
        other = KvCache(kv._namespace, app.env)
        await kv.put("k", "1")
        assert await kv.get("k") == "1"
        await other.put("k", "2")
        assert await kv.get("k") == "1"
        await sleep(5.01)
        assert await kv.get("k") == "2"
        await kv.put("k", "3")
        assert await kv.get(["k"]) == {"k": "3"}
        await kv.delete("k")
        assert await kv.get("k") is None


async def test_units_use_it_inside_turns() -> None:
    """A put in a turn is a call to another unit: it is durable when it returns."""
    async with with_kv() as app:
        writer = app.env.WRITER.get("w")
        await writer.note("a", [1])
        assert await writer.read("a") == [1]


def test_it_is_a_dictionary_that_crashes_do_not_change() -> None:
    """Over many seeds: puts, deletes, expiries, evictions and crashes leave what a dictionary would hold."""

    async def scenario(seed: int) -> None:
        async with with_kv() as app:
            await use(app, Chance(seed))

    async def use(app: TestApp, chance: Chance) -> None:
        env = app.env
        kv: KvCache = env.KV
        model: dict[str, tuple[str, float | None]] = {}
        for step in range(40):
            key, now_s = f"k{chance.below(6)}", env.now().timestamp()
            match chance.below(6):
                case 0 | 1:
                    ttl_s = chance.below(30) + 1 if chance.below(2) else None
                    value = f"{step}" * (1 + 600_000 * chance.below(2))
                    await kv.put(key, value, expiration_ttl=ttl_s)
                    model[key] = value, None if ttl_s is None else round((env.now().timestamp() + ttl_s) * 1000) / 1000
                case 2:
                    await kv.delete(key)
                    model.pop(key, None)
                case 3:
                    await sleep(chance.below(8))
                case 4:
                    await app.crash()
                case 5:
                    assert (await kv.get(key)) == alive(model, now_s).get(key)
        now_s = env.now().timestamp()
        assert [k.name for k in (await kv.list()).keys] == sorted(alive(model, now_s))

    check(scenario, seeds=60)


def alive(model: dict[str, tuple[str, float | None]], now_s: float) -> dict[str, str]:
    return {key: value for key, (value, until_s) in model.items() if until_s is None or until_s > now_s}


async def test_every_application_has_one(tmp_path: Any) -> None:
    """`env.mem`, without a block in the manifest."""
    (tmp_path / "stead.manifest").write_text('application "a" { actor "noter" {} }')
    (tmp_path / "app.py").write_text(
        "from stead import Actor\n\n\nclass Noter(Actor):\n    async def note(self) -> str:\n"
        "        await self.env.mem.put('k', 'v')\n        return await self.env.mem.get('k')\n"
    )
    async with TestApp(tmp_path) as app:
        assert await app.env.NOTER.get("a").note() == "v"
