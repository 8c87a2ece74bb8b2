"""What the value of one attribute may be: a reader for each kind, which returns the value in its final type or raises `Wrong`.

The text of `Wrong` continues a sentence that begins with the attribute's name.
"""

from __future__ import annotations

import difflib
import keyword
import re
import zoneinfo
from collections.abc import Iterable
from datetime import datetime
from functools import cache

from cronsim import CronSim, CronSimError

from stead.logic.recurrence import CRON_ALIASES, expand_cron
from stead.manifest.schema import Action, Visibility
from stead.manifest.tree import Block, Value

WORD_CHARS_MAX = 64  # a longer word is no slip of the pen, and the search for its neighbour is quadratic in its length
CANDIDATES_MAX = 200  # words compared in that search
CRON_CHARS_MAX = 256  # every minute, hour and day spelled out take 500, and nobody writes that
HOST_CHARS_MAX = 253  # RFC 1035
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
_CRON_START = datetime(2024, 1, 1)  # whether a cron ever fires does not depend on where one starts


class Wrong(Exception):
    """A value is not what its attribute needs."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was probably meant to be."""
    close = [c for c in candidates if len(c) <= WORD_CHARS_MAX][:CANDIDATES_MAX] if len(word) <= WORD_CHARS_MAX else []
    return next(iter(difflib.get_close_matches(word, close, n=1)), None)


def choice_hint(word: str, candidates: Iterable[str]) -> str:
    """`did you mean …?`, or what there is."""
    known = list(candidates)
    match = nearest(word, known)
    return f'did you mean "{match}"?' if match else f"use one of {', '.join(known)}"


def describe(value: Value) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value[:WORD_CHARS_MAX]}"'
        case tuple():
            return "a list"
        case Block():
            return "an object"
        case _:
            return str(value)


def text(value: Value) -> str:
    if isinstance(value, str):
        return value
    raise Wrong(f"must be text, not {describe(value)}", "write it in double quotes")


def region(value: Value) -> str:
    name = text(value)
    if name and len(name) <= WORD_CHARS_MAX:
        return name
    raise Wrong(f"must be the name of a region, not {describe(value)}", 'as nodes have it from --region, such as "eu"')


def labels(value: Value) -> dict[str, str]:
    hint = 'as nodes have them from --labels, such as { disk = "fast" }'
    if not isinstance(value, Block) or value.blocks or not value.attributes:
        raise Wrong(f"must be an object of names and texts, not {describe(value)}", hint)
    found: dict[str, str] = {}
    for attribute in value.attributes:
        if attribute.name in found:
            raise Wrong(f"has two values for {describe(attribute.name)}", "a node has one value for a label: keep one of them")
        if not isinstance(attribute.value, str):
            raise Wrong(f"must have text for {describe(attribute.name)}, not {describe(attribute.value)}", hint)
        found[attribute.name] = attribute.value
    return found


def truth(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise Wrong(f"must be true or false, not {describe(value)}", "write true or false without quotes")


def count(value: Value) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise Wrong(f"must be a whole number above 0, not {describe(value)}", "leave it out for the default")


def number(value: Value) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise Wrong(f"must be a whole number from 0, not {describe(value)}", "leave it out for the default")


def delay(value: Value) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return value
    raise Wrong(f"must be a number of seconds from 0, not {describe(value)}", "leave it out for the default")


def seconds(value: Value) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return value
    raise Wrong(f"must be a number of seconds above 0, not {describe(value)}", "leave it out for the default")


def algorithm(value: Value) -> str:
    known = ("token_bucket", "sliding_window")
    if text(value) in known:
        return text(value)
    raise Wrong(f"cannot be {describe(value)}", choice_hint(text(value), known))


def visibility(value: Value) -> Visibility:
    try:
        return Visibility(text(value))
    except ValueError:
        raise Wrong(f"cannot be {describe(value)}", choice_hint(text(value), Visibility)) from None


def actions(value: Value) -> tuple[Action, ...]:
    if not isinstance(value, tuple) or not value:
        raise Wrong("must be a list with at least one action", f"use any of {', '.join(Action)}, or leave it out for all of them")
    unknown = next((item for item in value if item not in set(Action)), None)
    if unknown is not None:
        raise Wrong(f"cannot contain {describe(unknown)}", choice_hint(str(unknown), Action))
    return tuple(dict.fromkeys(Action(text(item)) for item in value))


def dns_label(value: Value) -> str:
    label = text(value).lower()
    if _LABEL.fullmatch(label):
        return label
    hint = f'a whole host is written fqdn = "{label[:WORD_CHARS_MAX]}"' if _is_host(label) else _label_hint()
    raise Wrong(f"must be one label of a host name, not {describe(value)}", hint)


def host_name(value: Value) -> str:
    host = text(value).lower()
    if _is_host(host):
        return host
    hint = f'a first label alone is written domain {{ cname = "{host}" }}' if _LABEL.fullmatch(host) else _label_hint()
    raise Wrong(f"must be a whole host name such as shop.example.com, not {describe(value)}", hint)


def _is_host(host: str) -> bool:
    return len(host) <= HOST_CHARS_MAX and "." in host and all(_LABEL.fullmatch(label) for label in host.split("."))


def _label_hint() -> str:
    return "a label has 1 to 63 letters, digits and inner hyphens"


def module(value: Value) -> str:
    name = text(value)
    if _is_module(name):
        return name
    raise Wrong(f"must be the name of a Python module, not {describe(value)}", 'such as "app" or "shop.units", without .py')


def handler(value: Value) -> str:
    where, colon, name = text(value).partition(":")
    if colon and _is_module(where) and _is_module(name) and "." not in name:
        return text(value)
    raise Wrong(f"must read module:Class, not {describe(value)}", 'such as "shop.carts:ShoppingCart"')


def _is_module(name: str) -> bool:
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))


def task_type(value: Value) -> str:
    if text(value) == "cron":
        return "cron"
    raise Wrong(f'can only be "cron", not {describe(value)}', "leave it out: every task is one")


def cron(value: Value) -> str:
    written = text(value)
    expression = expand_cron(written)
    if expression.startswith("@"):
        raise Wrong(f"has no alias {describe(value)}", choice_hint(written, CRON_ALIASES))
    fields = expression.split()
    if len(fields) != 5 or len(expression) > CRON_CHARS_MAX:
        raise Wrong(
            f"must have five fields, not {describe(value)}", 'minute hour day month weekday, such as "0 2 * * *" or "@daily"'
        )
    try:
        next(CronSim(expression, _CRON_START))
    except CronSimError as exc:
        if not _is_cron(" ".join([*fields[:3], "*", fields[4]])) or not _is_cron(" ".join(["0 0 1", *fields[3:]])):
            field = str(exc).removeprefix("Bad ")
            raise Wrong(
                f"has a bad {field} in {describe(value)}", "minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7"
            ) from exc
        raise Wrong(f"never fires: no such day is in {describe(value)}", "check the day against the month") from exc
    except StopIteration:
        raise Wrong(f"never fires: no day fits {describe(value)}", "check day, month and weekday together") from None
    return written


def _is_cron(expression: str) -> bool:
    try:
        CronSim(expression, _CRON_START)
    except CronSimError:
        return False
    return True


def timezone(value: Value) -> str:
    name = text(value)
    try:
        if _ZONE.fullmatch(name):
            zoneinfo.ZoneInfo(name)
            return name
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        pass  # told below, with the ones that are spelled nearly so
    match = _nearest_zone(name)
    raise Wrong(f"knows no zone {describe(value)}", f'did you mean "{match}"?' if match else 'such as "Europe/Berlin" or "UTC"')


@cache
def _zones() -> list[str]:
    return sorted(zoneinfo.available_timezones())  # which opens some 600 files


def _nearest_zone(name: str) -> str | None:
    zones = _zones()
    region = name.partition("/")[0].lower()
    same_case = [zone for zone in zones if zone.lower() == name.lower()]
    return next(iter(same_case), None) or nearest(name, [zone for zone in zones if zone.lower().startswith(f"{region}/")])
