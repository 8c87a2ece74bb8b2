"""P9: actors are isolated: own storage, no shared objects, and two names never meet."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from stead import Actor, Invalid, Request, Service, durable, route
from stead.ids import NAME_BYTES_MAX, ActorId, Chance, parse_id
from stead.testing import SABOTAGES, TestApp, check, find, sabotaged

ALPHABET = (
    "a",
    "b",
    "/",
    "%",
    "2",
    "F",
    "f",
    "~",
    "k",
    ".",
    "..",
    " ",
    "é",
    "e\u0301",
    "ß",
    "SS",
    "🛒",
    "\\",
    "'",
    "\n",
    "\u200b",
    "A",
)
NASTY = (
    "a/b",
    "a%2Fb",
    "a%2fb",
    "a%252Fb",
    "é",
    "e\u0301",
    "a",
    "a ",
    " a",
    "A",
    "box",
    "x/box",
    "b/a",
    "ox/a",
    "/",
    "//",
    ".",
    "..",
    "%",
)
NAMES = 8


class Box(Actor):
    """Keeps what it is given, in every way there is."""

    kept: list[Any] = durable(factory=list)

    async def keep(self, token: str) -> None:
        self.kept.append(token)
        await self.storage.put("token", token)
        await self.sql.script("create table if not exists t(token text); ")
        await self.sql.execute("insert into t values (?)", token)
        await self.alarms.set(token, 4_000_000_000_000)

    async def show(self) -> Any:
        rows = await self.sql.fetch_all("select token from t") if await self._has_rows() else []
        alarms = [alarm.name for alarm in await self.alarms.list()]
        return [self.kept, list((await self.storage.list()).values()), [row["token"] for row in rows], alarms, self.id.name]

    async def hold(self, value: Any) -> Any:
        """Keep the very object that came, and return it."""
        self.kept = value
        self.held = value
        return self.held

    async def spoil(self) -> Any:
        """Change the object that came, and what storage handed out."""
        await self.storage.put("value", self.held)
        self.held.append("spoiled in place")
        first, second = await self.storage.get("value"), await self.storage.get("value")
        first.append("spoiled by a reader")
        assert second != first, "two reads share an object"
        assert await self.storage.get("value") == second, "a reader changed what is stored"
        return self.held

    async def pass_on(self, other: str) -> Any:
        """Hand a list to another actor, and change it afterwards."""
        value = ["mine"]
        box = self.env.BOX.get(other)
        back = await box.hold(value)
        value.append("changed by the sender")
        back.append("changed by the receiver of the result")
        return await box.show()

    async def alarm(self, alarm: Any) -> None:
        raise AssertionError("due in the next century")

    async def _has_rows(self) -> bool:
        return bool(await self.sql.fetch_value("select count(*) from sqlite_master where name = 't'"))


class Api(Service):
    @route("POST", "/{name:path}")
    async def keep(self, request: Request, name: str) -> None:
        await self.env.BOX.get(name).keep((await request.body()).decode())


def names_of(chance: Chance) -> list[str]:
    """Distinct names, some the classics, others made of what confuses parsers."""
    names = {NASTY[chance.below(len(NASTY))] for _ in range(NAMES // 2)}
    while len(names) < NAMES - 1:
        names.add("".join(ALPHABET[chance.below(len(ALPHABET))] for _ in range(1 + chance.below(6))))
    return [*sorted(names), "x" * NAME_BYTES_MAX]


def is_read_back(actor: ActorId) -> bool:
    try:
        return parse_id(str(actor)) == actor
    except Invalid:
        return False


def is_path(name: str) -> bool:
    """Whether clients and routers leave the name as it is in a path: they resolve dots, and a route matches one line."""
    return not name.startswith(("/", ".")) and "\n" not in name


async def names(seed: int) -> None:
    """Actors of two units whose names run into each other, some reached by HTTP."""
    chance = Chance(seed)
    async with TestApp.of(actors={"box": Box, "bo": Box}, services={"api": Api}) as app:
        expected: dict[Any, str] = {}
        for number, name in enumerate(names_of(chance)):
            for namespace in (app.env.BOX, app.env.BO):
                stub = namespace.get(name)
                assert stub.id not in expected, f"{name!r} met another name"
                assert is_read_back(stub.id), f"{stub.id} does not read back"
                expected[stub.id] = f"{number} of {namespace!r}"
                if namespace is app.env.BOX and chance.below(2) and is_path(name):
                    answer = await app.client.post(f"/{quote(name, safe='')}", content=expected[stub.id])
                    assert answer.status_code in {200, 204}, answer.text
                else:
                    await stub.keep(expected[stub.id])
        if chance.below(2):
            await app.crash()
        for actor, token in expected.items():
            stub = (app.env.BOX if actor.unit == "box" else app.env.BO).get(actor)
            assert await stub.show() == [[token], [token], [token], [token], actor.name], f"{actor} holds what is not its own"


async def objects(seed: int) -> None:
    """Values that are changed after they were passed, returned or stored."""
    chance = Chance(seed)
    async with TestApp.of(actors={"box": Box}) as app:
        p, q = app.env.BOX.get("p"), app.env.BOX.get("q")
        value: list[Any] = [{"deep": [chance.below(9)]}]
        before = [{"deep": [*value[0]["deep"]]}]
        back, other = await p.hold(value), await q.hold(value)
        value[0]["deep"].append("changed by the caller")
        back[0]["deep"].append("changed by who got the result")
        assert other == before, "two callers share a result"
        assert (await p.show())[0] == (await q.show())[0] == before, "an argument is shared"
        await p.spoil()
        await p.show()
        assert (await q.show())[0] == before, "two actors share an object"
        shown = await q.pass_on("r")
        assert shown[0] == ["mine"], f"a passed list is shared: {shown[0]}"
        assert (await app.env.BOX.get("new").show())[0] == [], "the default of an attribute is shared"


def test_two_names_never_meet() -> None:
    """Each name has its own keys, rows, attributes and alarms, however alike it looks, by stub and by HTTP."""
    check(names)


def test_no_object_is_shared() -> None:
    """Arguments, results and stored values are copies."""
    check(objects)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P9"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes one of the properties fail."""
    with sabotaged(name):
        find(objects if name == "values_shared" else names)
