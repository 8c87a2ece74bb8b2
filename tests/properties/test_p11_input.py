"""P11: bad input gets an error that says what to do, before anything ran; nothing is lost by it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead import Actor, Invalid, ManifestError, Request, Service, route
from stead.codec import decode, encode
from stead.ids import Chance
from stead.manifest import ManifestErrors, parse_manifest
from stead.testing import SABOTAGES, TestApp, check, find, sabotaged

MANIFEST = """application "shop" {
  module = "shop"
  env "REGION" { default = "eu" }
  service "api" {
    visibility = "public"
    domain { cname = "shop-api" }
  }
  actor "shopping-cart" {}
  queue "mails" { max_retries = 3 }
  observer "mailer" { source { queue = "mails" } }
}
"""
SNIPPETS = (
    '"',
    "{",
    "}",
    "=",
    "\n",
    "#",
    "//",
    "\\",
    '"api"',
    "actor",
    "service",
    "9" * 30,
    "\0",
    "é",
    "/*",
    "${x}",
    "<<EOF",
    "[",
    ",",
)


class Order(msgspec.Struct):
    product: str
    quantity: int


RAN: list[str] = []  # of the run under way: which methods began


class Strict(Actor):
    """Methods that say what they take."""

    async def number(self, value: int) -> int:
        RAN.append("number")
        assert type(value) is int
        return value

    async def text(self, value: str, times: int = 1) -> str:
        RAN.append("text")
        assert type(value) is str
        assert type(times) is int
        return value * times

    async def order(self, value: Order) -> int:
        RAN.append("order")
        assert type(value) is Order
        return value.quantity

    async def listed(self, value: list[int]) -> int:
        RAN.append("listed")
        assert all(type(item) is int for item in value)
        return len(value)

    async def keep(self, value: Any = None) -> None:
        await self.storage.put("kept", 1)
        await self.storage.put("value", object() if value is None else {value: [(object,)]})

    async def named(self, value: Any) -> None:
        await self.storage.put("kept", 1)
        await self.storage.put(value, 1)

    async def keys(self) -> list[str]:
        return list(await self.storage.list())


class Api(Service):
    @route("POST", "/orders/{number:int}")
    async def order(self, request: Request, number: int) -> dict[str, Any]:
        body = await request.json()
        RAN.append("json")
        return {"sum": number + await self.env.STRICT.get("a").number(body["value"])}


VALUES: tuple[Any, ...] = (
    *(None, True, 0, 7, -1, 2**80, 1.5, float("inf"), "", "7", "text", b"bytes", [], [1, 2], [1, "2"], [[]], {}, (), {1, 2}),
    *(
        {"product": "tea", "quantity": 1},
        {"product": "tea", "quantity": "1"},
        {"product": "tea"},
        Order("tea", 2),
        "\ud800",
        object(),
    ),
)
FITS = {
    "number": lambda value: type(value) is int,
    "text": lambda value: type(value) is str and value != "\ud800",
    "order": lambda value: type(value) is Order or (type(value) is dict and type(value.get("quantity")) is int),
    "listed": lambda value: type(value) in {list, tuple, set} and all(type(item) is int for item in value),
}


async def calls(seed: int) -> None:
    """Calls with values of every kind, missing, extra and misspelled arguments, and unknown methods."""
    chance = Chance(seed)
    async with TestApp.of(actors={"strict": Strict}, services={"api": Api}) as app:
        stub = app.env.STRICT.get("a")
        for _ in range(12):
            RAN.clear()
            method, value = list(FITS)[chance.below(4)], VALUES[chance.below(len(VALUES))]
            kind = chance.below(6)
            positional, named = ([value], {}) if kind else ([], {"value": value})
            fits = FITS[method](value)
            if kind == 1:
                named, fits = {"valeu": 1}, False
            elif kind == 2:
                positional, fits = [], False
            elif kind == 3:
                positional, fits = [value, 1, 1, 1], False
            elif kind == 4:
                method, fits = method[:-1], False
            await call(stub, method, positional, named, fits)
        await unstorable(stub)
        await requests(app, chance)


async def call(stub: Any, method: str, positional: list[Any], named: dict[str, Any], fits: bool) -> None:
    said = f"{method}(*{positional!r}, **{named!r})"
    try:
        await getattr(stub, method)(*positional, **named)
    except Invalid as exc:
        assert not fits, f"{said} was refused: {exc}"
        assert not RAN, f"{said} ran before it was refused: {exc}"
        assert len(str(exc)) > 15, f"{said}: the message {exc} says nothing"
    else:
        assert fits, f"{said} was let through"


async def unstorable(stub: Any) -> None:
    """What cannot be stored, and keys that are none."""
    for method, *arguments in (("keep",), ("keep", "a"), ("named", 7), ("named", "k" * 3000), ("named", None), ("named", ["a"])):
        try:
            await getattr(stub, method)(*arguments)
        except Invalid as exc:
            assert len(str(exc)) > 15, f"the message {exc} says nothing"
        else:
            raise AssertionError(f"{method}{arguments} was stored")
    assert await stub.keys() == [], "a refused value left a trace"


async def requests(app: TestApp, chance: Chance) -> None:
    """Requests that no route, method or body fits."""
    bodies = (b"", b"{", b'{"value": }', b'{"value": "7"}', b"[]", b"\xff\xfe", b'{"value": 1.5}', b"null", b"{}")
    for _ in range(4):
        RAN.clear()
        paths = ("/orders/1", "/orders/x", "/nowhere", "/orders/%00", "/orders/1/2", "/%ff")
        answer = await app.client.request(
            ("POST", "GET", "DELETE", "BREW")[chance.below(4)], paths[chance.below(6)], content=bodies[chance.below(9)]
        )
        assert answer.status_code >= 400
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["status"] == answer.status_code
        assert "number" not in RAN
    RAN.clear()
    answer = await app.client.post("/orders/1", json={"value": 2})
    assert answer.json() == {"sum": 3}


def broken(chance: Chance) -> str:
    """The manifest with a few things cut out, doubled or put in."""
    text = MANIFEST
    for _ in range(1 + chance.below(3)):
        start = chance.below(len(text) + 1)
        end = start + chance.below(12)
        text = text[:start] + ("", text[start:end] * 2, SNIPPETS[chance.below(len(SNIPPETS))])[chance.below(3)] + text[end:]
    return text


def test_calls_and_requests_are_checked_before_anything_runs() -> None:
    """What does not fit is refused with a sentence and runs nothing; what fits is let through."""
    check(calls)


def test_a_broken_manifest_is_shown_where() -> None:
    """A manifest is read, or refused with file, line, column, problem and hint inside its text; never anything else."""
    for seed in range(2000):
        text = broken(Chance(seed))
        try:
            parse_manifest(text, "stead.manifest")
        except ManifestErrors as errors:
            for error in errors.errors:
                assert isinstance(error, ManifestError)
                assert error.file == "stead.manifest"
                assert 1 <= error.line <= text.count("\n") + 2, text
                assert error.column >= 1
                assert error.problem
                assert error.hint


@settings(max_examples=500, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_hostile_bytes_make_values_or_errors(data: bytes) -> None:
    """Bytes are a value or `Invalid`, and a value goes round."""
    try:
        value = decode(data)
        again = encode(value)
    except Invalid:
        return
    assert encode(decode(again)) == again


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P11"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(calls)
