"""What a shared cache may keep of HTTP, and for how long: the strict part of RFC 9111. What it does not name is not kept.

Headers are lists of (lower-case name, value). There is no heuristic freshness: who wants a response kept says for how long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Headers = Sequence[tuple[str, str]]

KEPT_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})  # RFC 9110, section 15.1, without 206
_DIRECTIVE = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:=("(?:[^"\\]|\\.)*"|[^\s,"]*))?\s*(?:,|$)')
_TAG = re.compile(r'(?:W/)?"[^"]*"')


def directives(values: Sequence[str]) -> dict[str, str]:
    """The directives of Cache-Control, by lower-case name. What cannot be read is `no-store`: a cache that guesses does harm."""
    found: dict[str, str] = {}
    for value in values:
        position = 0
        while position < len(value):
            match = _DIRECTIVE.match(value, position)
            if match is None:
                return {"no-store": ""}
            name, argument = match[1].lower(), (match[2] or "").strip('"')
            if found.setdefault(name, argument) != argument:
                return {"no-store": ""}  # said twice, and not the same
            position = match.end()
    return found


def fresh_for_s(method: str, request: Headers, status: int, response: Headers) -> int | None:
    """For how many seconds the response answers requests like this one; None if it must not be kept."""
    told, names = directives(all_of(response, "cache-control")), {name for name, _ in response}
    if method != "GET" or status not in KEPT_STATUSES or names & {"set-cookie", "content-range"}:
        return None
    if told.keys() & {"no-store", "private", "no-cache"} or "no-store" in directives(all_of(request, "cache-control")):
        return None
    if all_of(request, "authorization") and "public" not in told:
        return None
    if varies_by(response) is None:
        return None
    lifetime = told.get("s-maxage", told.get("max-age", ""))
    age = next(iter(all_of(response, "age")), "0")
    if not _is_count(lifetime) or not _is_count(age):
        return None
    left_s = int(lifetime) - int(age)
    return left_s if left_s > 0 else None


def may_answer(request: Headers) -> bool:
    """Whether a request lets a cache answer it."""
    told = directives(all_of(request, "cache-control"))
    return not (told.keys() & {"no-cache", "no-store"} or told.get("max-age") == "0" or all_of(request, "range"))


def varies_by(response: Headers) -> tuple[str, ...] | None:
    """The request headers that the response depends on, sorted; None if it depends on more than headers."""
    names = sorted({name.strip().lower() for value in all_of(response, "vary") for name in value.split(",") if name.strip()})
    return None if "*" in names else tuple(names)


def variant(names: Sequence[str], request: Headers) -> list[list[str]]:
    """What a request says of these headers."""
    return [all_of(request, name) for name in names]


def is_unchanged(request: Headers, etag: str | None) -> bool:
    """Whether the client has this version already: If-None-Match, compared weakly."""
    asked = ",".join(all_of(request, "if-none-match")).strip()
    if not asked or etag is None:
        return False
    return asked == "*" or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in _TAG.findall(asked)}


def all_of(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key == name]


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
