"""Secrets in what is written for people are replaced, however they are spelled there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from stead import redaction
from stead.redaction import hide, redacted


@pytest.fixture(autouse=True)
def nothing_is_hidden() -> Iterator[None]:
    before = dict(redaction._masks)
    redaction._masks.clear()
    yield
    redaction._masks.clear()
    redaction._masks.update(before)


@pytest.mark.parametrize("value", ["s3cret-värde", 'with "quotes" and \\', "two\nlines", "a b/c?d", "-----BEGIN KEY-----\nabc\n"])
def test_every_spelling_is_found(value: str) -> None:
    """As it is, in JSON, as Python shows it, in an address."""
    hide("API_KEY", value)
    for text in (
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        repr(value),
        repr({"k": [value]}),
        quote(value, safe=""),
    ):
        shown = redacted(f"before {text} after")
        assert "[secret API_KEY]" in shown and shown.startswith("before ") and shown.endswith(" after")
        assert value not in shown


def test_one_secret_may_hold_another() -> None:
    """The longer one is replaced first, so nothing of it is left."""
    hide("SHORT", "abcdef")
    hide("LONG", "abcdef-and-more")
    assert redacted("x abcdef-and-more abcdef") == "x [secret LONG] [secret SHORT]"


def test_what_is_short_stays() -> None:
    """A value of a few characters is part of too many words."""
    hide("PIN", "1234")
    assert redacted("12345") == "12345"
