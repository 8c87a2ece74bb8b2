"""`durable` attributes: state that looks like plain attributes and commits with the turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from stead import Actor, Invalid, durable, reads
from stead.runtime.classes import ActorClass
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


@dataclass
class Item:
    name: str
    tags: list[str] = field(default_factory=list)


class Shelf(Actor):
    count: int = durable(0)
    items: list[Item] = durable(factory=list)
    index: dict[str, list[int]] = durable(factory=dict)
    best: Item | None = durable(None)
    template: Item = durable(Item("template"))

    async def fill(self) -> None:
        self.count += 1
        self.items.append(Item("tea"))
        tags = self.items[0].tags  # a way in that no assignment shows
        tags.append("green")
        self.index.setdefault("tea", []).append(1)
        self.best = self.items[0]
        self.template.tags.append("used")

    @reads
    async def seen(self) -> list[Any]:
        return [self.count, self.items, self.index, self.best, self.template]

    async def typed(self) -> bool:
        return all(isinstance(item, Item) for item in self.items) and isinstance(self.best, Item)

    async def spoil(self, how: str) -> None:
        self.count += 1
        await self.storage.put("spoiled", 1)
        match how:
            case "inside":
                self.index["bad"] = [object()]  # type: ignore[list-item]
            case "whole":
                self.best = lambda: None  # type: ignore[assignment]
            case "large":
                self.index["bad" * 1_000_000] = []
            case "deleted":
                del self.count

    async def keys(self) -> dict[str, Any]:
        return await self.storage.list()


FILLED = [
    1,
    [{"name": "tea", "tags": ["green"]}],
    {"tea": [1]},
    {"name": "tea", "tags": ["green"]},
    {"name": "template", "tags": ["used"]},
]
EMPTY = [0, [], {}, None, {"name": "template", "tags": []}]


async def test_changes_however_reached_are_kept() -> None:
    """Assignments, and changes deep inside lists, dicts and dataclasses, are there after eviction, as their types."""
    async with TestApp.of(actors={"shelf": Shelf}) as app:
        shelf = app.env.SHELF.get("a")
        await shelf.fill()
        await app.evict(shelf)
        assert await shelf.seen() == FILLED
        assert await shelf.typed()
        await app.crash()
        assert await shelf.seen() == FILLED


async def test_no_two_actors_share_a_default() -> None:
    """A mutable default changed by one actor is untouched in another, and in one that was rebuilt."""
    async with TestApp.of(actors={"shelf": Shelf}) as app:
        await app.env.SHELF.get("a").fill()
        assert await app.env.SHELF.get("b").seen() == EMPTY


@pytest.mark.parametrize("how", ["inside", "whole", "large", "deleted"])
async def test_a_value_that_cannot_be_stored_fails_the_turn_without_a_trace(how: str) -> None:
    """The error names what to do; nothing of the turn is kept, in memory either."""
    async with TestApp.of(actors={"shelf": Shelf}) as app:
        shelf = app.env.SHELF.get("a")
        with pytest.raises((Invalid, AttributeError)):
            await shelf.spoil(how)
        assert await shelf.seen() == EMPTY
        assert await shelf.keys() == {}


async def test_an_unchanged_attribute_is_not_written() -> None:
    """A turn that changes nothing commits nothing."""
    async with TestApp.of(actors={"shelf": Shelf}) as app:
        shelf = app.env.SHELF.get("a")
        await shelf.fill()
        commits = app.stats()["commits"]
        await shelf.typed()
        await shelf.keys()
        assert app.stats()["commits"] == commits


async def test_a_subclass_overrides_and_inherits() -> None:
    """A subclass has the attributes of its bases, with its own defaults; a plain attribute of that name is plain again."""

    class Base(Actor):
        kept: int = durable(1)
        changed: int = durable(2)
        plain: int = durable(3)

        async def bump(self) -> list[int]:
            self.kept += 10
            self.changed += 10
            self.plain += 10
            return [self.kept, self.changed, self.plain]

    class Sub(Base):
        changed: int = durable(20)
        plain = 30

    async with TestApp.of(actors={"sub": Sub}) as app:
        sub = app.env.SUB.get("a")
        assert await sub.bump() == [11, 30, 40]
        await app.evict(sub)
        assert await sub.bump() == [21, 40, 40]


@pytest.mark.parametrize("bad", [[], {}, {1}])
def test_a_plain_mutable_default_is_refused(bad: object) -> None:
    """The error says to use a factory; so it is with no default, or two."""
    with pytest.raises(Invalid, match="factory="):
        durable(bad)
    with pytest.raises(Invalid, match="either a default or factory"):
        durable()  # type: ignore[call-overload]


def test_an_annotation_that_cannot_be_found_is_an_error_at_the_start() -> None:
    """It names the class and the attribute."""

    class Lost(Actor):
        value: Nowhere = durable(None)  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(Invalid, match=r"Lost\.value"):
        ActorClass("lost", Lost)


async def test_without_a_runtime_an_attribute_is_plain() -> None:
    """A user's unit test may make an instance and use its attributes."""
    shelf = Shelf()
    shelf.count += 2
    shelf.items.append(Item("x"))
    assert (shelf.count, len(shelf.items), Shelf().items) == (2, 1, [])
