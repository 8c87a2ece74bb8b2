"""Errors that cross from one unit to another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stead import Actor, AppError, HTTPException, Invalid
from stead.runtime.failures import carried
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Declined(Exception):
    """An application's error with a constructor of its own."""

    def __init__(self, card: str, *, limit: int) -> None:
        super().__init__(f"{card} is declined")
        self.card = card
        self.limit = limit


class Cursed(Exception):
    """Fails in every part that can."""

    def __new__(cls, *args: object) -> Cursed:
        if not args:
            raise RuntimeError("needs arguments")
        return super().__new__(cls, *args)

    def __str__(self) -> str:
        raise RuntimeError("no text")


def undecodable() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def in_function() -> Exception:
    class Hidden(Exception):
        pass

    return Hidden("here")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("key"),
        FileNotFoundError(2, "no such file"),
        undecodable(),
        Declined("visa", limit=3),
        HTTPException(402, "declined"),
        json.JSONDecodeError("bad", "{", 1),
        AppError("elsewhere", "other.Error"),
        Invalid("wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_type_arguments_attributes_and_message(error: Exception) -> None:
    """The caller's error is of the same type and says the same, and its constructor has not run again."""
    copy = carried(error, "cart/a")
    assert copy is not error
    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))
    assert {key: value for key, value in vars(copy).items() if key != "__notes__"} == vars(error)
    assert "raised in cart/a" in copy.__notes__[0]


@pytest.mark.parametrize(
    ("error", "type_name", "message"),
    [
        (in_function(), "in_function.<locals>.Hidden", "here"),
        (Cursed("x"), "Cursed", "Cursed"),
        (SystemExit(3), "builtins.SystemExit", "3"),
        (KeyboardInterrupt(), "builtins.KeyboardInterrupt", "KeyboardInterrupt"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_that_cannot_be_made_here_is_an_app_error(error: BaseException, type_name: str, message: str) -> None:
    """It names the original type; what is no `Exception` cannot end the caller's process."""
    copy = carried(error, "cart/a")
    assert isinstance(copy, AppError)
    assert copy.type_name.endswith(type_name)
    assert str(copy) == message


def test_a_group_arrives_as_a_group() -> None:
    """What a TaskGroup raises keeps its errors, copied one by one."""
    group = ExceptionGroup("two", [Declined("visa", limit=1), ExceptionGroup("inner", [in_function()])])
    copy = carried(group, "cart/a")
    assert isinstance(copy, ExceptionGroup)
    declined, inner = copy.exceptions
    assert isinstance(declined, Declined) and declined.card == "visa" and declined is not group.exceptions[0]
    assert isinstance(inner, ExceptionGroup) and isinstance(inner.exceptions[0], AppError)


def test_notes_travel_and_broken_ones_do_no_harm() -> None:
    """Notes are kept in order before the trace; what is no text becomes it."""
    error = ValueError("x")
    error.add_note("first")
    assert carried(error, "cart/a").__notes__[0] == "first"
    error.__notes__ = [3]  # type: ignore[list-item]
    assert carried(error, "cart/a").__notes__[0] == "3"


def test_arguments_are_copies() -> None:
    """No two actors share a list, and what cannot travel arrives as its text."""
    shared: list[Any] = [1]
    copy = carried(ValueError(shared, object), "cart/a")
    assert copy.args == ([1], str(object))
    assert copy.args[0] is not shared


class Panic(BaseException):
    """No `Exception`: as extension modules raise for their own failures."""


class Till(Actor):
    async def fail(self, how: str) -> None:
        await self.storage.put("tried", how)
        raise {
            "declined": Declined("visa", limit=3),
            "group": ExceptionGroup("g", [ValueError("x")]),
            "cursed": Cursed("x"),
            "exit": SystemExit(1),
            "generator": GeneratorExit(),
            "stop": StopAsyncIteration(),
            "panic": Panic("of a library in another language"),
        }[how]

    async def tried(self) -> Any:
        return await self.storage.get("tried")

    async def relay(self, how: str) -> str:
        try:
            await self.env.TILL.get("other").fail(how)
        except Declined as error:
            return f"{error.card} {error.limit}"
        return ""


@pytest.mark.parametrize("how", ["declined", "group", "cursed", "exit", "generator", "stop", "panic"])
async def test_whatever_a_handler_raises_the_actor_goes_on(how: str) -> None:
    """Every error is answered, leaves no trace, and the next event runs."""
    async with TestApp.of(actors={"till": Till}) as app:
        till = app.env.TILL.get("a")
        with pytest.raises(Exception) as caught:
            await till.fail(how)
        assert any("raised in till/a" in note for note in caught.value.__notes__)
        assert await till.tried() is None


async def test_an_error_passes_through_several_actors() -> None:
    """A caller in the middle can handle the error by its type and attributes."""
    async with TestApp.of(actors={"till": Till}) as app:
        assert await app.env.TILL.get("a").relay("declined") == "visa 3"
