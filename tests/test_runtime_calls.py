"""Stubs, namespaces and bindings: how one unit reaches another, and what the border does to values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import pytest

from stead import Actor, Invalid, Service, reads, route
from stead.runtime.methods import method_table
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Size(StrEnum):
    SMALL = "small"


@dataclass
class Item:
    name: str
    quantity: int = 1


class Target(Actor):
    kept: ClassVar[list[Any]] = []

    async def keep(self, value: Any) -> Any:
        self.kept.append(value)
        return value

    async def add(self, item: Item, size: Size = Size.SMALL, *, note: str = "") -> Item:
        assert isinstance(item, Item) and isinstance(size, Size)
        return Item(item.name + note, item.quantity + 1)

    async def many(self, *numbers: int, **named: int) -> list[Any]:
        return [list(numbers), named]

    async def broken_promise(self) -> int:
        await self.storage.put("ran", 1)
        return "no number"  # type: ignore[return-value]

    async def unsendable(self) -> object:
        await self.storage.put("ran", 1)
        return object()

    async def ran(self) -> bool:
        return await self.storage.get("ran") is not None

    async def touch(self) -> None:
        await self.storage.put("touched", True)

    def plain(self) -> None:
        """No async method: not callable from outside."""

    async def _hidden(self) -> None:
        """Nor is this."""

    @reads
    async def through(self, name: str) -> Any:
        return await self.env.FRONT.ask(name)


class Front(Service):
    async def ask(self, name: str) -> list[Any]:
        return [name, await self.env.TARGET.get(name).keep("asked")]

    @route("GET", "/{name}")
    async def show(self, request: Any, name: str) -> list[Any]:
        return await self.ask(name)


def app_of() -> TestApp:
    Target.kept = []
    return TestApp.of(actors={"target": Target, "other-unit": type("Other", (Target,), {})}, services={"front": Front})


async def test_values_are_copied_both_ways() -> None:
    """Neither side's later changes are seen by the other."""
    async with app_of() as app:
        sent = {"list": [1]}
        got = await app.env.TARGET.get("a").keep(sent)
        sent["list"].append(2)
        got["list"].append(3)
        assert Target.kept == [{"list": [1]}]


async def test_values_become_what_annotations_say() -> None:
    """Dataclasses and enums arrive as themselves, from objects, from plain values, and in the reply."""
    async with app_of() as app:
        target = app.env.TARGET.get("a")
        assert await target.add(Item("tea"), Size.SMALL) == Item("tea", 2)
        assert await target.add({"name": "tea", "quantity": 4}, "small", note="!") == Item("tea!", 5)
        assert await target.many(1, 2, three=3) == [[1, 2], {"three": 3}]


@pytest.mark.parametrize(
    ("method", "args", "named", "said"),
    [
        ("nope", [], {}, "no callable method 'nope'"),
        ("kep", [], {}, "did you mean 'keep'"),
        ("plain", [], {}, "public async methods are callable"),
        ("add", [], {}, r"missing argument 'item' \(Item\)"),
        ("add", [3], {}, "argument 'item' must be Item"),
        ("add", [{"name": 3}], {}, r"\$.name"),
        ("add", [{"name": "x"}, "huge"], {}, "argument 'size' must be Size"),
        ("add", [{"name": "x"}], {"size": "small", "nte": ""}, "no argument 'nte'; did you mean 'note'"),
        ("add", [{"name": "x"}, "small", "note"], {}, "takes 2 positional arguments, got 3"),
        ("add", [{"name": "x"}], {"item": {"name": "x"}}, "'item' was given twice"),
        ("many", ["x"], {}, "argument 'numbers' must be int"),
        ("many", [], {"a": "x"}, "argument 'named' must be int"),
        ("keep", [object()], {}, "can be neither stored nor passed"),
    ],
)
async def test_a_wrong_call_names_what_is_wrong(method: str, args: list[Any], named: dict[str, Any], said: str) -> None:
    """The method, the argument, the expected type, and the nearest name; nothing ran."""
    async with app_of() as app:
        with pytest.raises(Invalid, match=said):
            await getattr(app.env.TARGET.get("a"), method)(*args, **named)
        assert Target.kept == []


async def test_hidden_members_are_not_reachable() -> None:
    """Names with an underscore, attributes and hooks are no part of a stub."""
    async with app_of() as app:
        target = app.env.TARGET.get("a")
        with pytest.raises(AttributeError):
            await target._hidden()
        for hook in ("alarm", "on_start", "storage"):
            with pytest.raises(Invalid, match="no callable method"):
                await getattr(target, hook)()
        assert (str(target.id), target.name, repr(target)) == ("target/a", "a", "<Stub target/a>")


async def test_a_result_that_cannot_travel_fails_the_turn() -> None:
    """The turn is rolled back, so the error is true: nothing was kept."""
    async with app_of() as app:
        with pytest.raises(Invalid, match="can be neither stored nor passed"):
            await app.env.TARGET.get("a").unsendable()
        assert await app.env.TARGET.get("a").ran() is False


async def test_env_knows_what_there_is() -> None:
    """A wrong name gets the nearest one, or the list; a class gets its unit."""
    async with app_of() as app:
        with pytest.raises(Invalid, match=r"did you mean env.TARGET\?"):
            app.env.TARGETS  # noqa: B018
        with pytest.raises(AttributeError, match="OTHER_UNIT"):
            app.env.SOMETHING_ELSE_ALTOGETHER  # noqa: B018
        assert app.env.actor(Target).get("x").id == app.env.TARGET.get("x").id
        assert await app.env.service(Front).ask("x") == ["x", "asked"]
        with pytest.raises(Invalid, match="no actor has the class Actor"):
            app.env.actor(Actor)


async def test_a_class_of_two_units_must_be_named() -> None:
    """Typed access cannot choose between them."""
    async with TestApp.of(actors={"one": Target, "two": Target}) as app:
        with pytest.raises(Invalid, match="several actors have the class Target; use env.NAME"):
            app.env.actor(Target)


async def test_actors_and_services_call_each_other() -> None:
    """A call through a service keeps the chain: it may come back to the actor it began at."""
    async with app_of() as app:
        assert await app.env.TARGET.get("a").through("b") == ["b", "asked"]
        with pytest.raises(Invalid, match="came back to write"):
            await app.env.TARGET.get("a").through("a")


async def test_ids_belong_to_their_namespace() -> None:
    """Names, unique ids and their text lead to the same actor; another unit's id is refused."""
    async with app_of() as app:
        targets = app.env.TARGET
        unique = targets.unique_id()
        assert targets.get(unique).id == targets.id_from_string(str(unique))
        assert targets.get("a").id == targets.id_from_name("a")
        for text in ("other-unit/a", "nonsense"):
            with pytest.raises(Invalid):
                targets.id_from_string(text)
        with pytest.raises(Invalid, match="belongs to 'other-unit'"):
            targets.get(app.env.OTHER_UNIT.id_from_name("a"))
        with pytest.raises(Invalid, match="must be str"):
            targets.get(5)


async def test_a_namespace_lists_who_holds_something() -> None:
    """In order of names, by prefix, page by page; those that only answered are not there, nor are other units'."""
    async with app_of() as app:
        names = [f"{letter}{n}" for letter in "ab" for n in range(5)]
        await asyncio.gather(*[app.env.TARGET.get(name).touch() for name in names])
        await app.env.TARGET.get("idle").keep(1)
        await app.env.OTHER_UNIT.get("b9").touch()
        listed, cursor = [], None
        while True:
            page = await app.env.TARGET.list(limit=3, cursor=cursor)
            listed += [entry.name for entry in page.actors]
            cursor = page.cursor
            if cursor is None:
                break
        assert listed == names
        page = await app.env.TARGET.list("b", limit=5)
        assert ([entry.name for entry in page.actors], page.cursor) == (names[5:], None)
        assert page.actors[0].size_bytes > 0
        for limit in (0, -1, 10**6):
            with pytest.raises(Invalid, match="limit must be 1 to"):
                await app.env.TARGET.list(limit=limit)


def test_a_class_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many nodes run it; a method that was replaced since is compiled anew."""

    async def touch(self: Target, twice: bool) -> None: ...

    before = method_table(Target, Actor)
    assert method_table(Target, Actor) == before
    monkeypatch.setattr(Target, "touch", touch)
    after = method_table(Target, Actor)
    assert after["touch"].function is touch
    assert {name for name in before if after[name] is not before[name]} == {"touch"}
